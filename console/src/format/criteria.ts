// The criteria of a canary in words, each with the unit of its figures. Limits against the baseline are about the
// difference; what was measured, the interval and the baseline are the versions' own figures.
import { milliseconds, percent, short } from "./numbers.ts";

const LIMITS: Readonly<Record<string, (limit: string) => string>> = {
  error_rate_max: (limit) => `Error rate at most ${limit}`,
  latency_p95_max_ms: (limit) => `Latency p95 at most ${limit}`,
  latency_p99_max_ms: (limit) => `Latency p99 at most ${limit}`,
  accuracy_min: (limit) => `Accuracy at least ${limit}`,
  error_rate_increase_max: (limit) => `Error rate at most ${limit} above the baseline's`,
  latency_p95_ratio_max: (limit) => `Latency p95 at most ${limit} times the baseline's`,
  accuracy_decrease_max: (limit) => `Accuracy at most ${limit} below the baseline's`,
  prediction_shift_max: (limit) => `Shift of predictions at most ${limit}`,
  shadow_disagreement_max: (limit) => `Disagreement of shadows at most ${limit}`,
};

/** A limit as a sentence's beginning: what is looked at, and how far it may go. */
export function limitSaid(criterion: string, limit: number): string {
  const metric = metricOf(criterion);
  if (metric) {
    const [name, kind] = metric;
    if (kind === "decrease_max") return `${name} at most ${percent(limit)} below the baseline's`;
    return `${name} ${kind === "min" ? "at least" : "at most"} ${short(limit)}`;
  }
  const said = criterion === "latency_p95_ratio_max" ? short(limit) : criterionValue(criterion, limit);
  return LIMITS[criterion]?.(said) ?? `${criterion.replaceAll("_", " ")} ${short(limit)}`;
}

/** A figure of a version by a criterion, with its unit. */
export function criterionValue(criterion: string, value: number): string {
  if (criterion.startsWith("latency_")) return milliseconds(value);
  return metricOf(criterion) || !(criterion in LIMITS) ? short(value) : percent(value);
}

/** The figure that the version's own may not pass: the limit, or what it makes of the baseline's. */
export function boundary(criterion: string, limit: number, baseline: number): number {
  if (metricOf(criterion)?.[1] === "decrease_max") return baseline - Math.abs(baseline) * limit;
  if (criterion === "latency_p95_ratio_max") return baseline * limit;
  if (criterion === "error_rate_increase_max") return baseline + limit;
  return criterion === "accuracy_decrease_max" ? baseline - limit : limit;
}

/** Whether the baseline's figure has a part in it. */
export function comparesWithBaseline(criterion: string): boolean {
  return /(increase|ratio|decrease)_max$/.test(criterion);
}

function metricOf(criterion: string): [name: string, kind: string] | undefined {
  const found = /^metrics\.(.+)\.(min|max|decrease_max)$/.exec(criterion);
  return found ? [found[1] ?? "", found[2] ?? ""] : undefined;
}

/** What stands for an end that is not known: JSON has no infinity, and the router says 1e300. */
export function known(end: number): boolean {
  return Math.abs(Number(end)) < 1e299;
}

/** An interval as text, its ends read by `said`; an end that is not known is said so. */
export function interval(low: number, high: number, said: (value: number) => string): string {
  if (!known(low) && !known(high)) return "not known yet";
  if (!known(high)) return `${said(low)} or more`;
  return known(low) ? `${said(low)} to ${said(high)}` : `${said(high)} or less`;
}
