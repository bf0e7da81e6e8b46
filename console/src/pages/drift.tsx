// Drift of a model: the newest report of a version, the ones before it, and what they compare with.
import { useMemo, useState } from "preact/hooks";
import { get, path, requestId, send, withQuery } from "../api/client.ts";
import type { ApiError } from "../api/errors.ts";
import type { Baseline, DriftReport, Page } from "../api/types.ts";
import { asApiError, useGet, useRead } from "../api/watching.ts";
import { anomalySaid } from "../format/drift.ts";
import { count, percent, short } from "../format/numbers.ts";
import { before } from "../format/times.ts";
import { go } from "../navigation.ts";
import { Badge, Choice, Empty, Failure, Moment, Reading, Section } from "../parts/basics.tsx";
import { DriftReportPart, keyOf, sourceSaid } from "../parts/drift-report.tsx";
import { DriftOverTime } from "../parts/drift-over-time.tsx";
import { More, Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";

const PERIOD_MS = 60_000;
const WINDOWS = [["86400", "1 day"], ["604800", "7 days"], ["2592000", "30 days"], ["7776000", "90 days"]] as const;
const SEVERITIES = [["", "All"], ["moderate", "Moderate or high"], ["high", "High"]] as const;
const AT_ONCE = 24;

export function DriftPage({ model, report: wanted }: { model: string; report: string }) {
  const at = path("models", model);
  const [version, setVersion] = useState("");
  const [windowS, setWindow] = useState("604800");
  const [severity, setSeverity] = useState("");
  const [many, setMany] = useState(AT_ONCE);
  const [chosen, setChosen] = useState("");
  const baselines = useGet<Page<"baselines", Baseline>>(withQuery(`${at}/baselines`, { page_size: 100 }), PERIOD_MS);
  const reports = useRead(`${at} ${version} ${windowS} ${severity} ${many}`, PERIOD_MS, (signal) =>
    get<Page<"drift_reports", DriftReport>>(`${at}/drift-reports`, signal, {
      version, min_severity: severity, start_time: before(Date.now(), Number(windowS)), page_size: many,
    }));
  const known = baselines.value?.baselines ?? [];
  const listed = useMemo(() => reports.value?.drift_reports ?? [], [reports.value]);
  const shown = wanted || (listed[0]?.report_id ?? "");
  const versions = [...new Set(known.map((one) => one.version))];
  const filters = (
    <div class="choices">
      <Choice label="Time" options={WINDOWS} value={windowS} onChange={setWindow} />
      <Choice label="Severity" options={SEVERITIES} value={severity} onChange={setSeverity} />
      <label class="inline">Version{" "}
        <select value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
          <option value="">all</option>
          {versions.map((one) => <option key={one} value={one}>{one}</option>)}
        </select>
      </label>
    </div>
  );
  return (
    <>
      <Failure error={baselines.error} what="Baselines cannot be read" />
      {shown === "" ? null : (
        <Report key={shown} model={model} id={shown} newest={shown === listed[0]?.report_id} baselines={known} chosen={chosen} onChoose={setChosen} />
      )}
      <Section title="Reports" side={filters}>
        <Failure error={reports.error} what="Drift reports cannot be read" />
        {reports.value === undefined ? (reports.error ? null : <Reading />) : listed.length === 0 ? (
          <Empty command={known.length === 0 ? `infermesh drift baseline create ${model} VERSION --last 6h` : undefined}>
            {known.length === 0 ? "There is nothing to compare its traffic with. The command makes a baseline out of traffic, or of a sample of training data. " : "There is no such report. "}
            A report is made each hour in which a version with a baseline had 1,000 predictions.
          </Empty>
        ) : (
          <>
            <DriftOverTime reports={listed} shown={shown} chosen={chosen} />
            <Reports model={model} reports={listed} shown={shown} />
            <More there={reports.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + AT_ONCE))} />
          </>
        )}
      </Section>
      {known.length > 0 ? <Baselines model={model} baselines={known} onReport={reports.again} /> : null}
    </>
  );
}

function Report(props: {
  model: string; id: string; newest: boolean; baselines: readonly Baseline[]; chosen: string; onChoose: (key: string) => void;
}) {
  const report = useGet<DriftReport>(path("models", props.model, "drift-reports", props.id), PERIOD_MS);
  const value = report.value;
  return (
    <Section title={props.newest ? "The newest report" : "The report"} side={
      props.newest ? null : <a href={pathOf("models", props.model, "drift")}>The newest</a>
    }>
      <Failure error={report.error} what="The report cannot be read" />
      {value === undefined ? (report.error ? null : <Reading />) : (
        <DriftReportPart report={value} baseline={props.baselines.find((one) => one.baseline_id === value.baseline_id)}
          chosen={props.chosen || (value.features[0] ? keyOf(value.features[0]) : "")} onChoose={props.onChoose} />
      )}
    </Section>
  );
}

function Reports(props: { model: string; reports: readonly DriftReport[]; shown: string }) {
  return (
    <Table caption="Drift reports, newest first" rows={props.reports} id={(one) => one.report_id} columns={[
      { head: "Window until", cell: (one) => (
        <a href={pathOf("models", props.model, "drift", one.report_id)} aria-current={one.report_id === props.shown ? "true" : undefined}>
          <Moment at={one.window.end_time} />
        </a>
      ) },
      { head: "Version", cell: (one) => one.version },
      { head: "Drift", cell: (one) => <Badge word={one.severity} /> },
      { head: "Drifting", cell: (one) => drifting(one) || "–" },
      { head: "Predictions", number: true, cell: (one) => count(one.row_count) },
      { head: "Expected accuracy", number: true, cell: (one) => percent(one.expected_accuracy) },
      { head: "Realised", number: true, cell: (one) => percent(one.realised_accuracy) },
      { head: "Rows told apart", number: true, cell: (one) => (one.domain_classifier_auc > 0 ? short(one.domain_classifier_auc) : "–") },
      { head: "Beside that", cell: (one) => one.anomalies.map(anomalySaid).join("; ") || "–" },
    ]} />
  );
}

const NAMED_MAX = 3;

function drifting(report: DriftReport): string {
  const names = report.features.filter((one) => one.severity !== "none").map((one) => one.feature);
  const more = names.length - NAMED_MAX;
  return names.slice(0, NAMED_MAX).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function Baselines(props: { model: string; baselines: readonly Baseline[]; onReport: () => void }) {
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState("");
  const compare = async (version: string) => {
    setBusy(version);
    setError(undefined);
    try {
      const at = path("models", props.model, "versions", version, "drift-reports");
      const made = await send<DriftReport>("POST", at, { request_id: requestId() });
      props.onReport();
      go(pathOf("models", props.model, "drift", made.report_id));
    } catch (failed) {
      setError(asApiError(failed));
    } finally {
      setBusy("");
    }
  };
  return (
    <Section title="Baselines">
      <Failure error={error} what="It cannot be compared" />
      <Table caption="Baselines, newest first" rows={props.baselines} id={(one) => one.baseline_id} columns={[
        { head: "Version", cell: (one) => one.version },
        { head: "State", cell: (one) => <><Badge word={one.status} /> {one.status_message}</> },
        { head: "Rows", number: true, cell: (one) => count(one.row_count) },
        { head: "From", cell: (one) => <span class="digest">{sourceSaid(one)}</span> },
        { head: "Made", cell: (one) => <><Moment at={one.created_at} />{one.created_by ? ` by ${one.created_by}` : ""}</> },
        { head: "Actions", cell: (one) => (one.status === "active" ? (
          <button type="button" disabled={busy !== ""} onClick={() => void compare(one.version)}>
            {busy === one.version ? "Comparing…" : "Compare the last hour now"}<span class="unseen"> of {one.version}</span>
          </button>
        ) : "–") },
      ]} />
    </Section>
  );
}
