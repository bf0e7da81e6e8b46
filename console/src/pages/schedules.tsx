// Schedules: batch jobs that are made again and again.
import { useState } from "preact/hooks";
import { path, remove, send, withQuery } from "../api/client.ts";
import type { BatchSchedule, Page } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { count } from "../format/numbers.ts";
import { Badge, Empty, Failure, Moment, Reading } from "../parts/basics.tsx";
import { Confirm } from "../parts/dialog.tsx";
import { More, Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";

const PERIOD_MS = 15_000;

export function SchedulesPage() {
  const [many, setMany] = useState(50);
  const [asked, setAsked] = useState<{ deed: "pause" | "resume" | "remove"; of: BatchSchedule }>();
  const [done, setDone] = useState("");
  const schedules = useGet<Page<"schedules", BatchSchedule>>(withQuery("/v1/batch/schedules", { page_size: many }), PERIOD_MS);
  const doIt = async () => {
    if (asked === undefined) return;
    const { deed, of } = asked;
    const at = path("batch", "schedules", of.schedule_id);
    if (deed === "remove") await remove(at);
    else await send("PATCH", withQuery(at, { update_mask: "paused" }), { paused: deed === "pause", etag: of.etag });
    setDone(`${of.schedule_name} is ${deed === "remove" ? "removed" : deed === "pause" ? "paused" : "at work again"}.`);
    schedules.again();
  };
  return (
    <>
      <p role="status" aria-live="polite" class={done ? "notice good" : "unseen"}>{done}</p>
      <Failure error={schedules.error} what="Schedules cannot be read" />
      {schedules.value === undefined ? (schedules.error ? null : <Reading />) : schedules.value.schedules.length === 0 ? (
        <Empty command="infermesh schedules create NAME '0 3 * * *' MODEL INPUT.csv OUTPUT-{date}.csv --key COLUMN">
          There is no schedule yet. The command makes one, whose jobs come by themselves.
        </Empty>
      ) : (
        <>
          <Table caption="Schedules, by name" rows={schedules.value.schedules} id={(one) => one.schedule_id} columns={[
            { head: "Schedule", cell: (one) => one.schedule_name },
            { head: "State", cell: (one) => <Badge word={one.paused ? "paused" : "active"} /> },
            { head: "When", cell: (one) => <><code>{one.cron}</code> {one.time_zone || "UTC"}</> },
            { head: "Model", cell: (one) => <><a href={pathOf("models", one.job.model_name)}>{one.job.model_name}</a> {one.job.model_version || "newest version"}</> },
            { head: "Next job", cell: (one) => <Moment at={one.next_run_time} /> },
            { head: "Last job", cell: (one) => <Last of={one} /> },
            { head: "Jobs", number: true, cell: (one) => <>{count(one.run_count)}{one.waiting_count > 0 ? `, ${count(one.waiting_count)} wait` : ""}</> },
            { head: "Actions", cell: (one) => (
              <div class="buttons">
                <button type="button" onClick={() => setAsked({ deed: one.paused ? "resume" : "pause", of: one })}>
                  {one.paused ? "Resume" : "Pause"}<span class="unseen"> {one.schedule_name}</span>
                </button>
                <button type="button" class="danger" onClick={() => setAsked({ deed: "remove", of: one })}>Remove<span class="unseen"> {one.schedule_name}</span></button>
              </div>
            ) },
          ]} />
          <More there={schedules.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 50))} />
        </>
      )}
      {asked ? (
        <Confirm title={`${WORDS[asked.deed][0]} the schedule`} action={WORDS[asked.deed][0]} danger={asked.deed === "remove"}
          onClose={() => setAsked(undefined)} onDo={doIt}>
          <p>{asked.of.schedule_name}: {WORDS[asked.deed][1]}</p>
        </Confirm>
      ) : null}
    </>
  );
}

const WORDS = {
  pause: ["Pause", "no jobs are made for now, and what passes meanwhile is not made up for."],
  resume: ["Resume", "jobs are made again, from the next moment on."],
  remove: ["Remove", "no more jobs are made. Those that it made stay."],
} as const;

function Last({ of }: { of: BatchSchedule }) {
  return (
    <>
      {of.last_job_id ? <a href={pathOf("jobs", of.last_job_id)}><Moment at={of.last_run_time} /></a> : <Moment at={of.last_run_time} />}
      {of.last_error_message ? <div class="small bad-text">{of.last_error_message}</div> : null}
    </>
  );
}
