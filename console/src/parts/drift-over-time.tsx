// How one feature's effect and the expected accuracy went from report to report.
import { useMemo } from "preact/hooks";
import type { DriftReport } from "../api/types.ts";
import { effect, HIGH, MODERATE } from "../format/drift.ts";
import { percent, short } from "../format/numbers.ts";
import { Chart } from "./chart.tsx";
import { keyOf } from "./drift-report.tsx";

/** Of the version of the report that is shown; nothing with fewer than two reports of it. */
export function DriftOverTime(props: { reports: readonly DriftReport[]; shown: string; chosen: string }) {
  const { reports, shown, chosen } = props;
  const drawn = useMemo(() => {
    const of = (reports.find((one) => one.report_id === shown) ?? reports[0])?.version;
    const byEnd = new Map(reports.filter((one) => one.version === of).map((one) => [Date.parse(one.window.end_time) / 1000, one]).reverse() as Array<[number, DriftReport]>);
    const times = [...byEnd.keys()].sort((one, other) => one - other);
    const ordered = times.map((time) => byEnd.get(time)!);
    const worst = ordered.at(-1)?.features[0];
    const key = chosen || (worst ? keyOf(worst) : "");
    const values = ordered.map((one) => {
      const feature = one.features.find((each) => keyOf(each) === key);
      return feature ? effect(feature) : null;
    });
    return {
      times, name: key.replace(/^(in|out)put /, ""),
      effects: [
        { name: "effect", values }, { name: "moderate above", values: times.map(() => MODERATE) }, { name: "high above", values: times.map(() => HIGH) },
      ],
      accuracies: [
        { name: "expected", values: ordered.map((one) => one.expected_accuracy ?? null) },
        { name: "realised", values: ordered.map((one) => one.realised_accuracy ?? null) },
      ],
    };
  }, [reports, shown, chosen]);
  if (drawn.times.length < 2) return null;
  return (
    <div class="charts">
      <Chart title={`Effect of ${drawn.name}`} times={drawn.times} series={drawn.effects} said={short} least={0.25} />
      <Chart title="Accuracy" times={drawn.times} series={drawn.accuracies} said={percent} least={1} />
    </div>
  );
}
