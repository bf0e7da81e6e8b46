// How long to wait before asking again.

export const LONGEST_MS = 60_000;

/** After `failures` in a row: twice as long each time, and never in step with others. `chance` is 0 to 1. */
export function delayMs(periodMs: number, failures: number, chance: number): number {
  if (failures === 0) return periodMs;
  const longest = Math.max(LONGEST_MS, periodMs);
  return Math.min(longest, Math.max(1000, periodMs) * 2 ** Math.min(failures, 16)) * (0.75 + 0.5 * chance);
}
