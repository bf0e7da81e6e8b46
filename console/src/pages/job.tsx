// One batch job: how far it is, how fast, what went wrong.
import { useState } from "preact/hooks";
import { path, verb, withQuery } from "../api/client.ts";
import type { BatchJob, FailedRow, Page } from "../api/types.ts";
import { useGet, useStream } from "../api/watching.ts";
import { stateOf } from "../format/jobs.ts";
import { count, duration, milliseconds, rate } from "../format/numbers.ts";
import { Badge, Facts, Failure, Figure, Moment, Reading, Section } from "../parts/basics.tsx";
import { JobDeeds, JobProgress } from "../parts/job-deeds.tsx";
import { More, Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";

export function JobPage({ job: id }: { job: string }) {
  const at = path("batch", "jobs", id);
  const [seen, setSeen] = useState<BatchJob>();
  const over = seen !== undefined && !["pending", "running"].includes(seen.status);
  // A job that has ended changes no more: its stream is done.
  const error = useStream<BatchJob>(over ? "" : verb(at, "watch"), setSeen);
  if (seen === undefined) return error ? <Failure error={error} what="The job cannot be followed" /> : <Reading />;
  const job = seen;
  const { progress, metrics } = job;
  return (
    <>
      <Failure error={error} what="The job cannot be followed; what is shown may be old" />
      <p><Badge word={stateOf(job)} /> <strong>{job.job_name}</strong></p>
      {job.error_message ? <p class="notice bad">{job.error_message} <code>{job.error_reason}</code></p> : null}
      <div class="job-progress"><JobProgress job={job} /></div>
      <p class="unseen" role="status" aria-live="polite">{stateOf(job)}, {Math.floor((progress?.percent_complete ?? 0) / 10) * 10} percent</p>
      <div class="figures">
        <Figure name="Rows done" value={count(progress?.processed_records)} note={`of ${count(progress?.total_records)}`} />
        <Figure name="Failed rows" value={count(progress?.failed_records)} tone={(progress?.failed_records ?? 0) > 0 ? "bad" : ""} />
        <Figure name="Rate" value={(metrics?.throughput_per_sec ?? 0) > 0 ? rate(metrics.throughput_per_sec, "rows/s") : "–"} />
        <Figure name={job.completed_at ? "Ended" : "Probably done"} value={<Moment at={job.completed_at ?? job.estimated_completion_time} />} />
        <Figure name="Ran for" value={duration(metrics?.running_s)} />
        <Figure name="A request took" value={(metrics?.request_count ?? 0) > 0 ? milliseconds(metrics.avg_latency_ms) : "–"} note={`${count(metrics?.request_count)} ${metrics?.request_count === 1 ? "request" : "requests"}`} />
      </div>
      <JobDeeds job={job} onChange={() => undefined} />
      <Section title="What it does">
        <Facts facts={[
          ["Model", <><a href={pathOf("models", job.model_name)}>{job.model_name}</a> {job.model_version}</>],
          ["Input", <code class="digest">{job.input_uri}</code>],
          ["Output", <code class="digest">{job.output_uri}</code>],
          ["Failed rows are in", job.errors_uri ? <code class="digest">{job.errors_uri}</code> : ""],
          ["At once", `${count(job.max_parallelism)} requests of ${count(job.batch_size)} rows`],
          ["Steps", `${count(progress?.completed_chunks)} of ${count(progress?.total_chunks)} done`],
          ["Made", <><Moment at={job.created_at} />{job.created_by ? ` by ${job.created_by}` : ""}</>],
          ["Began", job.started_at ? <Moment at={job.started_at} /> : ""],
          ["Team", job.team],
          ["Id", <code>{job.job_id}</code>],
        ]} />
      </Section>
      {(progress?.failed_records ?? 0) > 0 ? <FailedRows at={at} /> : null}
    </>
  );
}

function FailedRows({ at }: { at: string }) {
  const [many, setMany] = useState(20);
  const rows = useGet<Page<"failed_rows", FailedRow>>(withQuery(`${at}/failed-rows`, { page_size: many }), 10_000);
  return (
    <Section title="Rows that could not be predicted">
      <Failure error={rows.error} what="Failed rows cannot be read" />
      {rows.value === undefined ? (rows.error ? null : <Reading />) : (
        <>
          <Table caption="Rows that could not be predicted" rows={rows.value.failed_rows} id={(row) => String(row.row_number)} columns={[
            { head: "Row", number: true, cell: (row) => count(row.row_number) },
            { head: "Key", cell: (row) => row.key || "–" },
            { head: "Reason", cell: (row) => <code>{row.error_reason}</code> },
            { head: "Message", cell: (row) => row.error_message },
          ]} />
          <More there={rows.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 50))} />
        </>
      )}
    </Section>
  );
}
