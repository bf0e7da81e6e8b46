// Silences as they are asked for.

export interface Silencing { rule: string; model: string; lengthS: number; reason: string }

/** The longest that the API takes is 30 days. */
export const LENGTHS = [["3600", "1 hour"], ["14400", "4 hours"], ["86400", "1 day"], ["604800", "7 days"]] as const;

/** What is wrong with it, in one sentence. Empty: nothing. */
export function problem(wish: Pick<Silencing, "rule" | "model">): string {
  return wish.rule === "" && wish.model === "" ? "Choose a rule, a model, or both." : "";
}

/** The silence as the API takes it: from now on. */
export function silenceOf(wish: Silencing, now: number): object {
  return {
    rule_name: wish.rule, model_name: wish.model, reason: wish.reason.trim(), end_time: new Date(now + wish.lengthS * 1000).toISOString(),
  };
}
