// Batch jobs, newest first, with how far they are.
import { useState } from "preact/hooks";
import { withQuery } from "../api/client.ts";
import type { BatchJob, Page } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { stateOf } from "../format/jobs.ts";
import { count, rate } from "../format/numbers.ts";
import { Badge, Choice, Empty, Failure, Moment, Reading } from "../parts/basics.tsx";
import { JobDeeds, JobProgress } from "../parts/job-deeds.tsx";
import { More, Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";

const STATUSES = [["", "All"], ["pending", "Pending"], ["running", "Running"], ["completed", "Completed"], ["failed", "Failed"], ["cancelled", "Cancelled"]] as const;

export function JobsPage() {
  const [status, setStatus] = useState("");
  const [many, setMany] = useState(25);
  const [busy, setBusy] = useState(true);
  const jobs = useGet<Page<"jobs", BatchJob>>(withQuery("/v1/batch/jobs", { status, page_size: many }), busy ? 2000 : 15_000);
  const all = jobs.value?.jobs ?? [];
  const runs = all.some((job) => job.status === "running" || job.status === "pending");
  if (jobs.value !== undefined && runs !== busy) setBusy(runs);
  return (
    <>
      <Choice label="Status" options={STATUSES} value={status} onChange={setStatus} />
      <Failure error={jobs.error} what="Jobs cannot be read" />
      {jobs.value === undefined ? (jobs.error ? null : <Reading />) : all.length === 0 ? (
        <Empty command="infermesh jobs submit MODEL INPUT.csv OUTPUT.csv --key COLUMN">
          {status === "" ? "There is no batch job yet." : `No job is ${status}.`} The command predicts every row of a file.
        </Empty>
      ) : (
        <>
          <Table caption="Batch jobs, newest first" rows={all} id={(job) => job.job_id} columns={[
            { head: "Job", cell: (job) => <a href={pathOf("jobs", job.job_id)}>{job.job_name || job.job_id}</a> },
            { head: "Model", cell: (job) => <><a href={pathOf("models", job.model_name)}>{job.model_name}</a> {job.model_version}</> },
            { head: "Status", cell: (job) => <Badge word={stateOf(job)} /> },
            { head: "Progress", cell: (job) => <JobProgress job={job} /> },
            { head: "Rate", number: true, cell: (job) => ((job.metrics?.throughput_per_sec ?? 0) > 0 ? rate(job.metrics.throughput_per_sec, "rows/s") : "–") },
            { head: "Failed rows", number: true, cell: (job) => count(job.progress?.failed_records ?? 0) },
            { head: "Done", cell: (job) => <Moment at={job.completed_at ?? job.estimated_completion_time} /> },
            { head: "Actions", cell: (job) => <JobDeeds job={job} onChange={jobs.again} /> },
          ]} />
          <More there={jobs.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 25))} />
        </>
      )}
    </>
  );
}
