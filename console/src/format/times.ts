// Moments in the reader's zone. What is shown is near and short; the exact moment is beside it.
import { duration } from "./numbers.ts";

/** How long ago or ahead a moment is, in its greatest unit. */
export function relative(moment: string | undefined, now: number): string {
  const at = Date.parse(moment ?? "");
  if (Number.isNaN(at)) return "–";
  const seconds = (now - at) / 1000;
  if (Math.abs(seconds) < 5) return "now";
  const length = duration(Math.abs(seconds)).split(" ")[0] ?? "";
  return seconds > 0 ? `${length} ago` : `in ${length}`;
}

/** The exact moment, in the reader's zone and with it. */
export function exact(moment: string | undefined): string {
  const at = new Date(moment ?? "");
  if (Number.isNaN(at.getTime())) return "";
  return at.toLocaleString("en-GB", {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
    timeZoneName: "short",
  });
}

/** The time of day, for a chart's table. */
export function clockTime(seconds: number, withDay: boolean): string {
  return new Date(seconds * 1000).toLocaleString("en-GB", {
    hour: "2-digit", minute: "2-digit", ...(withDay ? { day: "numeric", month: "short" } : {}),
  });
}

/** The day, for the axis of a chart over many. */
export function dayOf(seconds: number): string {
  return new Date(seconds * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}

/** The moment `secondsAgo` before `now`, as the API takes it. */
export function before(now: number, secondsAgo: number): string {
  return new Date(now - secondsAgo * 1000).toISOString();
}

/** Milliseconds from one moment to another; undefined where one is not there. */
export function between(from: string | undefined, to: string | undefined): number | undefined {
  const length = Date.parse(to ?? "") - Date.parse(from ?? "");
  return Number.isNaN(length) ? undefined : length;
}
