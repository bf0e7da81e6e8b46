// One drift report: its verdict, its features with the worst first, and the chosen one drawn.
import { useRef, useState } from "preact/hooks";
import type { Baseline, DriftReport, FeatureDrift } from "../api/types.ts";
import { anomalySaid, effectSaid, probability } from "../format/drift.ts";
import { count, percent, short } from "../format/numbers.ts";
import { exact } from "../format/times.ts";
import { Badge, Choice, Facts, Figure, Moment } from "./basics.tsx";
import { FeatureChart, kindSaid } from "./feature-chart.tsx";
import { More, Table } from "./table.tsx";

/** In a narrow window each is a card. */
const atOnce = () => (innerWidth > 600 ? 15 : 5);
const KINDS = [["", "All"], ["drifting", "Drifting"], ["input", "Inputs"], ["output", "Outputs"]] as const;

/** Names a feature: an input and an output may be called the same. */
export function keyOf(feature: { feature: string; output: boolean }): string {
  return `${feature.output ? "output" : "input"} ${feature.feature}`;
}

export function DriftReportPart(props: {
  report: DriftReport; baseline: Baseline | undefined; chosen: string; onChoose: (key: string) => void;
}) {
  const { report, baseline } = props;
  const chosen = report.features.find((one) => keyOf(one) === props.chosen) ?? report.features[0];
  const drawing = useRef<HTMLDivElement>(null);
  const choose = (feature: FeatureDrift) => {
    props.onChoose(keyOf(feature));
    drawing.current?.scrollIntoView({ block: "nearest" });
  };
  const drifting = report.features.filter((one) => one.severity !== "none").length;
  return (
    <>
      <div class="figures">
        <Figure name="Drift" value={<Badge word={report.severity} />} note={`${count(drifting)} of ${count(report.features.length)} features`} />
        <Figure name="Predictions" value={count(report.row_count)} note={baseline ? `against ${count(baseline.row_count)} of the baseline` : "in the window"} />
        <Figure name="Expected accuracy" value={percent(report.expected_accuracy)} note="by its own confidences" />
        <Figure name="Realised accuracy" value={percent(report.realised_accuracy)} note={`of ${count(report.outcome_count)} outcomes`} />
        <Figure name="Rows told apart" value={report.domain_classifier_auc > 0 ? short(report.domain_classifier_auc) : "–"} note="AUC; 0.5: not at all, 1: always" />
      </div>
      {report.anomalies.length > 0 ? (
        <p class="notice warn">Out of the ordinary: {report.anomalies.map(anomalySaid).join("; ")}.</p>
      ) : null}
      <Facts facts={[
        ["Version", report.version],
        ["Window", `${exact(report.window.start_time)} to ${exact(report.window.end_time)}`],
        ["Baseline", <>{baseline ? sourceSaid(baseline) : ""} <code>{report.baseline_id}</code></>],
        ["Made", <Moment at={report.created_at} />],
      ]} />
      <div ref={drawing} aria-live="polite">{chosen ? <FeatureChart feature={chosen} /> : null}</div>
      <Features report={report} chosen={chosen} onChoose={choose} />
    </>
  );
}

/** Where a baseline is from. */
export function sourceSaid(baseline: Baseline): string {
  const window = baseline.reference_window as Baseline["reference_window"] | undefined;
  return window ? `its traffic from ${exact(window.start_time)} to ${exact(window.end_time)}` : `sample ${baseline.sample_uri}`;
}

function Features(props: { report: DriftReport; chosen: FeatureDrift | undefined; onChoose: (feature: FeatureDrift) => void }) {
  const [kind, setKind] = useState("");
  const [name, setName] = useState("");
  const [many, setMany] = useState(atOnce);
  const all = props.report.features.filter((one) =>
    one.feature.toLowerCase().includes(name.trim().toLowerCase())
    && (kind === "" || (kind === "drifting" ? one.severity !== "none" : one.output === (kind === "output"))));
  return (
    <>
      <div class="choices features-head">
        <h3>Features, the worst first</h3>
        <Choice label="Which" options={KINDS} value={kind} onChange={setKind} />
        {props.report.features.length > many || name !== "" ? (
          <label class="inline">Name has{" "}
            <input type="text" value={name} onInput={(event) => setName(event.currentTarget.value)} />
          </label>
        ) : null}
      </div>
      {all.length === 0 ? <p class="quiet">No feature is like that.</p> : (
        <Table caption="Features, the worst first" rows={all.slice(0, many)} id={keyOf} columns={[
          { head: "Feature", cell: (one) => (
            <button type="button" class="link digest" aria-pressed={one === props.chosen} onClick={() => props.onChoose(one)}>{one.feature}</button>
          ) },
          { head: "Kind", cell: kindSaid },
          { head: "Verdict", cell: (one) => <Badge word={one.severity} /> },
          { head: "Effect", number: true, cell: effectSaid },
          { head: "p, corrected", number: true, cell: (one) => probability(one.p_value) },
          { head: "PSI", number: true, cell: (one) => one.psi.toFixed(3) },
          { head: "Chi-squared", number: true, cell: (one) => (one.chi_squared > 0 ? short(one.chi_squared) : "–") },
          { head: "Jensen–Shannon", number: true, cell: (one) => one.jensen_shannon.toFixed(3) },
          { head: "Missing", number: true, cell: (one) => `${percent(one.missing_fraction)} (${percent(one.baseline_missing_fraction)})` },
        ]} />
      )}
      <More there={all.length > many} onMore={() => setMany(many + 100)} />
      <p class="small quiet">
        The effect is the Kolmogorov–Smirnov statistic of numbers and the stability index of categories: above 0.1 it may be moderate, above
        0.2 high, where p says that it is no chance. Missing: share of the window, of the baseline in brackets.
      </p>
    </>
  );
}
