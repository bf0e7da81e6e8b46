// One feature's two distributions drawn over each other: a histogram of numbers, bars of categories.
import type { FeatureDrift } from "../api/types.ts";
import { histogram, measuredSaid, MISSING, ofCategories, outline, probability, spaced, type Bin, type Histogram } from "../format/drift.ts";
import { percent, short } from "../format/numbers.ts";
import { Badge } from "./basics.tsx";
import { Table } from "./table.tsx";

const HEIGHT = 200;
/** As much of the width as one label of the axis takes. */
const LABEL_GAP = 0.09;

export function FeatureChart({ feature }: { feature: FeatureDrift }) {
  const drawn = histogram(feature.bins);
  const name = `${feature.feature}${feature.output ? " (output)" : ""}`;
  return (
    <figure class="chart drift-chart">
      <figcaption>
        <span class="chart-title">{name} <Badge word={feature.severity} /></span>
        <span class="legend" aria-hidden="true"><span class="key line-1">Baseline</span><span class="key line-2">Window</span></span>
      </figcaption>
      <p class="small">
        {measuredSaid(feature)}; p {probability(feature.p_value)} after correction for all features{missingSaid(feature)}
      </p>
      {feature.bins.length === 0 ? <p class="quiet">Neither has a value of it.</p> : drawn ? (
        <Numbers drawn={drawn} name={name} />
      ) : <Categories bins={feature.bins} name={name} />}
      {drawn ? (
        <details>
          <summary>As a table<span class="unseen">: {name}</span></summary>
          <Shares bins={feature.bins} name={name} />
        </details>
      ) : null}
    </figure>
  );
}

function missingSaid(feature: FeatureDrift): string {
  if (feature.missing_fraction === 0 && feature.baseline_missing_fraction === 0) return "";
  return `. Missing in ${percent(feature.missing_fraction)} of the window and ${percent(feature.baseline_missing_fraction)} of the baseline`;
}

function Numbers({ drawn, name }: { drawn: Histogram; name: string }) {
  const apart = [...drawn.bars].sort((one, other) =>
    Math.abs(other.bin.window_share - other.bin.baseline_share) - Math.abs(one.bin.window_share - one.bin.baseline_share))[0]!.bin;
  const summary = `Histogram of ${name}. They are furthest apart at ${apart.label}: baseline ${percent(apart.baseline_share)}, window ${percent(apart.window_share)}.`;
  return (
    <div class="histogram">
      <svg viewBox={`0 0 1000 ${HEIGHT}`} height={HEIGHT} preserveAspectRatio="none" role="img" aria-label={summary}>
        <path class="drift-baseline" d={outline(drawn.bars, "baseline", HEIGHT)} />
        <path class="drift-window" d={outline(drawn.bars, "window", HEIGHT)} />
        {drawn.bars.map(({ bin, from, to }) => (
          <rect key={bin.label} class="drift-bin" x={from * 1000} width={(to - from) * 1000} y="0" height={HEIGHT}>
            <title>{`${bin.label}: baseline ${percent(bin.baseline_share)}, window ${percent(bin.window_share)}`}</title>
          </rect>
        ))}
      </svg>
      <div class="histogram-axis" aria-hidden="true">
        {spaced(drawn.ticks, LABEL_GAP).map((tick) => (
          <span key={tick.at} class={tick.at === 0 ? "first" : tick.at === 1 ? "last" : ""} style={{ left: `${tick.at * 100}%` }}>
            {tick.cut && tick.at === 0 ? "‹ " : ""}{short(tick.value)}{tick.cut && tick.at === 1 ? " ›" : ""}
          </span>
        ))}
      </div>
      <p class="small quiet">
        Areas are shares of the rows.{drawn.ticks.some((tick) => tick.cut) ? " Where the axis has a hook, stray values lie as far as it says; the bin is drawn shorter." : ""}
      </p>
    </div>
  );
}

/** Each category with a bar of the baseline and one of the window over it. */
function Categories({ bins, name }: { bins: readonly Bin[]; name: string }) {
  const highest = Math.max(...bins.map((bin) => Math.max(bin.baseline_share, bin.window_share))) || 1;
  const width = (share: number) => `${(share / highest) * 100}%`;
  return (
    <Table caption={`Categories of ${name}`} rows={bins} id={(bin) => bin.label} columns={[
      { head: "Category", cell: (bin) => bin.label },
      {
        head: "Over each other", cell: (bin) => (
          <svg class="category-bars" width="100%" height="16" aria-hidden="true">
            <rect class="drift-baseline" x="1" y="1" width={width(bin.baseline_share)} height="14" />
            <rect class="drift-window" x="1" y="4" width={width(bin.window_share)} height="8" />
          </svg>
        ),
      },
      ...SHARES,
    ]} />
  );
}

const SHARES = [
  { head: "Baseline", number: true, cell: (bin: Bin) => percent(bin.baseline_share) },
  { head: "Window", number: true, cell: (bin: Bin) => percent(bin.window_share) },
];

function Shares({ bins, name }: { bins: readonly Bin[]; name: string }) {
  return (
    <Table caption={`Shares of ${name}`} rows={bins} id={(bin) => bin.label} columns={[
      { head: "Bin", cell: (bin) => (bin.label === MISSING ? "missing" : bin.label) }, ...SHARES,
    ]} />
  );
}

/** What kind of feature it is, in a word. */
export function kindSaid(feature: FeatureDrift): string {
  return `${feature.output ? "output" : "input"}, ${ofCategories(feature) ? "categories" : "numbers"}`;
}
