// How the answers of a model's shadow copies compare with what callers got.
import { useState } from "preact/hooks";
import { path, get } from "../api/client.ts";
import type { Page, ShadowReport } from "../api/types.ts";
import { useRead } from "../api/watching.ts";
import { interval } from "../format/criteria.ts";
import { count, percent, short } from "../format/numbers.ts";
import { before } from "../format/times.ts";
import { pathOf } from "../routing.ts";
import { Choice, Empty, Failure, Moment, Reading, Section } from "./basics.tsx";
import { Table } from "./table.tsx";

const WINDOWS = [["3600", "1 hour"], ["86400", "1 day"], ["604800", "7 days"]] as const;

export function Shadows({ model }: { model: string }) {
  const [windowS, setWindow] = useState("86400");
  const at = `${path("models", model)}/shadow-reports`;
  const reports = useRead(`${at} ${windowS}`, 30_000, (signal) =>
    get<Page<"shadow_reports", ShadowReport>>(at, signal, { start_time: before(Date.now(), Number(windowS)), page_size: 100 }));
  const all = reports.value?.shadow_reports ?? [];
  return (
    <Section title="Shadow copies" side={<Choice label="Time" options={WINDOWS} value={windowS} onChange={setWindow} />}>
      <Failure error={reports.error} what="Shadow reports cannot be read" />
      {reports.value === undefined ? (reports.error ? null : <Reading />) : all.length === 0 ? (
        <Empty command={`infermesh traffic set ${model} VERSION=100 --shadow OTHER`}>
          No version got copies of requests in this time. The command sends some to a version whose answers nobody sees.
        </Empty>
      ) : all.map((one) => <Report key={`${one.shadow_version} ${one.primary_version}`} model={model} report={one} />)}
    </Section>
  );
}

function Report({ model, report }: { model: string; report: ShadowReport }) {
  const failed = Object.values(report.failed_by_reason).reduce((sum, many) => sum + many, 0);
  const named = `${report.shadow_version} beside ${report.primary_version}`;
  return (
    <div class="card-frame">
      <Table caption={named} rows={[report]} id={() => named} columns={[
        { head: "Copies for", cell: (one) => one.shadow_version },
        { head: "Callers got", cell: (one) => one.primary_version },
        { head: "Compared", number: true, cell: (one) => count(one.compared_count) },
        { head: "Disagree", number: true, cell: (one) => (one.compared_count > 0 ? percent(one.disagreement_rate) : "–") },
        { head: "True share is in, 95 %", cell: (one) => (one.compared_count > 0 ? interval(one.disagreement_low, one.disagreement_high, percent) : "–") },
        { head: "Not answered", number: true, cell: () => count(failed) },
        { head: "Never sent", number: true, cell: (one) => count(one.dropped_count) },
      ]} />
      {failed > 0 ? <p class="small">Not answered: {Object.entries(report.failed_by_reason).map(([why, many]) => `${why} ${count(many)}`).join(", ")}</p> : null}
      {report.examples.length > 0 ? (
        <details>
          <summary>{report.examples.length} that disagree<span class="unseen">: {named}</span></summary>
          <Table caption={`Requests that ${named} answered differently`} rows={report.examples} id={(one) => `${one.request_id} ${one.row}`} columns={[
            { head: "Request", cell: (one) => <a class="digest" href={pathOf("models", model, "log", one.request_id)}>{one.request_id}</a> },
            { head: "When", cell: (one) => <Moment at={one.time} /> },
            { head: "Row", number: true, cell: (one) => count(one.row) },
            { head: report.primary_version, cell: (one) => <code class="digest">{one.primary_output}</code> },
            { head: report.shadow_version, cell: (one) => <code class="digest">{one.shadow_output}</code> },
            { head: "Apart by", number: true, cell: (one) => short(one.difference) },
          ]} />
        </details>
      ) : null}
    </div>
  );
}
