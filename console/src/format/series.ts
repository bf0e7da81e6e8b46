// A time series as charts want it: one value for each step, also for those that the API leaves out.

interface Latency { p50: number; p95: number; p99: number; avg: number }
interface Figures { request_count: number; error_count: number; error_rate: number; latency?: Latency }
export interface Point { start_time: string; metrics?: Figures }

export interface Drawn {
  /** The beginnings of the steps, in seconds since 1970. */
  times: number[];
  /** Requests a second. A step that was left out had none. */
  rates: number[];
  /** 0 to 1; null where nothing was asked. */
  errors: Array<number | null>;
  /** In milliseconds; null where nothing was answered. */
  p50: Array<number | null>;
  p95: Array<number | null>;
  p99: Array<number | null>;
}

export const STEPS_S = { minute: 60, hour: 3600, day: 86_400 } as const;
export type Step = keyof typeof STEPS_S;

/** Window in seconds to the step that gives a chart enough points and not too many. */
export function stepFor(windowS: number): Step {
  if (windowS <= 6 * 3600) return "minute";
  return windowS <= 14 * 86_400 ? "hour" : "day";
}

/** The points over the window from `from` to `to` (seconds since 1970). The step that still runs is as long as it is old. */
export function drawn(points: readonly Point[], step: Step, from: number, to: number): Drawn {
  const length = STEPS_S[step];
  const at = new Map(points.map((point) => [Math.round(Date.parse(point.start_time) / 1000), point.metrics]));
  const made: Drawn = { times: [], rates: [], errors: [], p50: [], p95: [], p99: [] };
  for (let time = Math.floor(from / length) * length; time < to; time += length) {
    const figures = at.get(time);
    const asked = figures?.request_count ?? 0;
    const answered = asked - (figures?.error_count ?? 0);
    const latency = answered > 0 ? figures?.latency : undefined;
    made.times.push(time);
    made.rates.push(asked / Math.max(1, Math.min(length, to - time)));
    made.errors.push(asked > 0 ? (figures?.error_rate ?? 0) : null);
    made.p50.push(latency?.p50 ?? null);
    made.p95.push(latency?.p95 ?? null);
    made.p99.push(latency?.p99 ?? null);
  }
  return made;
}
