// Drift in words, and two distributions as a histogram: where each bin lies, how wide and how high it is.
import { short } from "./numbers.ts";

export interface Bin { label: string; baseline_share: number; window_share: number; low?: number; high?: number }
interface Feature {
  ks_statistic: number; psi: number; chi_squared: number; missing_fraction: number; baseline_missing_fraction: number; bins: readonly Bin[];
}

export const MISSING = "(missing)";
/** Effects above these are moderate and high, as the monitor judges them. */
export const MODERATE = 0.1;
export const HIGH = 0.2;
/** Of the span of the inner bins: as far as the first and the last bin are drawn, so that one stray value presses nothing flat. */
const TAIL_MAX = 1;
/** Of the whole width: a bin of one value only would be no more than a line. */
const WIDTH_MIN = 1 / 40;

/** Whether the feature is one of categories. Reports in lists are without bins; the statistics tell then. */
export function ofCategories(feature: Feature): boolean {
  const known = feature.bins.filter((bin) => bin.label !== MISSING);
  if (known.some((bin) => bin.low !== undefined)) return false;
  return feature.chi_squared > 0 || (feature.ks_statistic === 0 && (feature.psi > 0 || known.length > 0));
}

/** What thresholds are for: the Kolmogorov–Smirnov statistic of numbers, the stability index of categories. */
export function effect(feature: Feature): number {
  return ofCategories(feature) ? feature.psi : feature.ks_statistic;
}

/** The effect with its name. */
export function effectSaid(feature: Feature): string {
  return `${ofCategories(feature) ? "PSI" : "KS"} ${decimals(effect(feature))}`;
}

/** What was measured, the statistic that was tested first. */
export function measuredSaid(feature: Feature): string {
  const tested = ofCategories(feature) ? `Chi-squared ${short(feature.chi_squared)}` : `Kolmogorov–Smirnov ${decimals(feature.ks_statistic)}`;
  return `${tested}, stability index ${decimals(feature.psi)}`;
}

/** A probability: what is below one in ten thousand is said by its power of ten. */
export function probability(p: number | undefined): string {
  if (p === undefined || !Number.isFinite(p)) return "–";
  if (p === 0 || p < 1e-99) return "<1e-99";
  return p < 1e-4 ? p.toExponential(0) : String(Number(p.toPrecision(2)));
}

function decimals(value: number): string {
  return Number.isFinite(value) ? value.toFixed(3) : "–";
}

export interface Drawn {
  bin: Bin;
  /** Where it is drawn, 0 to 1. */
  from: number;
  to: number;
  /** How high, 0 to 1: the area is the share. */
  baseline: number;
  window: number;
}

export interface Histogram {
  bars: Drawn[];
  /** Values under the axis, by where they are drawn. `cut`: values go on beyond what is drawn. */
  ticks: Array<{ at: number; value: number; cut: boolean }>;
}

/** The bins of numbers as they are drawn. Undefined where they do not say where they lie, as those of categories. */
export function histogram(bins: readonly Bin[]): Histogram | undefined {
  const known = bins.filter((bin) => bin.label !== MISSING);
  if (known.length === 0 || known.some((bin) => !Number.isFinite(bin.low) || !Number.isFinite(bin.high))) return undefined;
  // A bin without width and without rows is where the values of both begin at the first edge.
  const there = known.filter((bin) => bin.high! > bin.low! || bin.baseline_share + bin.window_share > 0);
  if (there.length === 0) return undefined;
  const inner = there.slice(1, -1).reduce((sum, bin) => sum + (bin.high! - bin.low!), 0);
  const longest = inner > 0 ? inner * TAIL_MAX : Infinity;
  const tail = (place: number) => place === 0 || place === there.length - 1;
  const lengths = there.map((bin, place) => (tail(place) ? Math.min(bin.high! - bin.low!, longest) : bin.high! - bin.low!));
  const widths = atLeast(lengths, WIDTH_MIN);
  let from = 0;
  const bars = there.map((bin, place) => {
    const width = widths[place] ?? 0;
    const bar = { bin, from, to: from + width, baseline: bin.baseline_share / width, window: bin.window_share / width };
    from += width;
    return bar;
  });
  const highest = Math.max(...bars.map((bar) => Math.max(bar.baseline, bar.window))) || 1;
  const cut = (place: number) => tail(place) && (lengths[place] ?? 0) < there[place]!.high! - there[place]!.low!;
  return {
    bars: bars.map((bar) => ({ ...bar, baseline: bar.baseline / highest, window: bar.window / highest })),
    ticks: [
      { at: 0, value: there[0]!.low!, cut: cut(0) },
      ...bars.slice(1).map((bar) => ({ at: bar.from, value: bar.bin.low!, cut: false })),
      { at: 1, value: there.at(-1)!.high!, cut: cut(there.length - 1) },
    ],
  };
}

/** Lengths as parts of a whole, none smaller than `least`. */
function atLeast(lengths: readonly number[], least: number): number[] {
  const sum = lengths.reduce((total, length) => total + length, 0);
  const parts = lengths.map((length) => Math.max(least, sum > 0 ? length / sum : 1));
  const whole = parts.reduce((total, part) => total + part, 0);
  return parts.map((part) => part / whole);
}

/** Ticks that are at least `gap` apart; the first and the last stay. */
export function spaced<T extends { at: number }>(ticks: readonly T[], gap: number): T[] {
  const last = ticks.at(-1);
  const kept: T[] = [];
  for (const tick of ticks) {
    const before = kept.at(-1);
    if (tick === last || before === undefined || (tick.at - before.at >= gap && (last?.at ?? 1) - tick.at >= gap)) kept.push(tick);
  }
  return kept;
}

/** The outline over the bars, from the axis to the axis, as a path of SVG in a box of 1000 by `height`. */
export function outline(bars: readonly Drawn[], side: "baseline" | "window", height: number): string {
  const across = (at: number) => (at * 1000).toFixed(1);
  const up = (value: number) => (height * (1 - value)).toFixed(1);
  const steps = bars.map((bar) => `V${up(bar[side])}H${across(bar.to)}`);
  return `M${across(bars[0]?.from ?? 0)} ${height}${steps.join("")}V${height}`;
}

const ANOMALIES: Readonly<Record<string, string>> = {
  low_confidence: "many predictions with little confidence",
  latency_p95: "latency p95 is high",
  error_rate: "many errors",
  seasonal: "far more or fewer requests than at this time on other days",
  joint_drift: "whole rows differ, whatever single features show",
  accuracy: "outcomes show less accuracy than expected",
};

/** What is out of the ordinary, in words. */
export function anomalySaid(anomaly: string): string {
  return ANOMALIES[anomaly] ?? anomaly.replaceAll("_", " ");
}
