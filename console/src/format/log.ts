// What is asked of the prediction log.
import { before } from "./times.ts";

/** The log keeps as many days. */
const KEPT_S = 30 * 86_400;

/** As it is typed in. */
export interface Wish {
  version: string;
  request: string;
  user: string;
  failedOnly: boolean;
  /** The last so many seconds. Empty: from `from` to `to`. */
  windowS: string;
  /** Of fields for a moment: local, without a zone. */
  from: string;
  to: string;
}

export const NOTHING: Wish = { version: "", request: "", user: "", failedOnly: false, windowS: "3600", from: "", to: "" };

/** What is wrong with it, in one sentence. Empty: nothing. */
export function problem(wish: Wish): string {
  if (wish.windowS !== "") return "";
  const [from, to] = [Date.parse(wish.from), Date.parse(wish.to)];
  if (Number.isNaN(from)) return "Say from when.";
  if (wish.to !== "" && Number.isNaN(to)) return "The end is no moment.";
  if (wish.to !== "" && to <= from) return "The end is not after the beginning.";
  return "";
}

/** The query of the API for a wish. One that names its request is looked for in all that is kept. */
export function queryOf(wish: Wish, now: number): Record<string, string> {
  const request = wish.request.trim();
  const windowS = request !== "" && wish.windowS !== "" ? KEPT_S : Number(wish.windowS);
  return {
    version: wish.version,
    request_id: request,
    user_id: wish.user.trim(),
    errors_only: wish.failedOnly ? "true" : "",
    start_time: wish.windowS === "" ? new Date(wish.from).toISOString() : before(now, windowS),
    end_time: wish.windowS === "" && wish.to !== "" ? new Date(wish.to).toISOString() : "",
  };
}

/** JSON for people. What was not kept is nothing. */
export function pretty(value: unknown): string {
  return value === undefined || value === null ? "" : JSON.stringify(value, null, 2);
}
