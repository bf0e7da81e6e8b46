// What can be done with a batch job.
import { useState } from "preact/hooks";
import { path, send, verb } from "../api/client.ts";
import type { ApiError } from "../api/errors.ts";
import type { BatchJob } from "../api/types.ts";
import { asApiError } from "../api/watching.ts";
import { deedsOf, type Deed } from "../format/jobs.ts";
import { Failure } from "./basics.tsx";
import { Confirm } from "./dialog.tsx";

const NAMES: Readonly<Record<Deed, string>> = { pause: "Pause", resume: "Resume", cancel: "Cancel", retry: "Try again" };

export function JobDeeds({ job, onChange }: { job: BatchJob; onChange: () => void }) {
  const [asking, setAsking] = useState(false);
  const [error, setError] = useState<ApiError>();
  const doIt = async (deed: Deed) => {
    await send("POST", verb(path("batch", "jobs", job.job_id), deed), {});
    onChange();
  };
  const attempt = async (deed: Deed) => {
    setError(undefined);
    await doIt(deed).catch((failed: unknown) => setError(asApiError(failed)));
  };
  const deeds = deedsOf(job);
  if (deeds.length === 0) return null;
  return (
    <>
      <div class="buttons">
        {deeds.map((deed) => (
          <button key={deed} type="button" class={deed === "cancel" ? "danger" : ""}
            onClick={() => (deed === "cancel" ? setAsking(true) : void attempt(deed))}>
            {NAMES[deed]}<span class="unseen"> {job.job_name || job.job_id}</span>
          </button>
        ))}
      </div>
      <Failure error={error} />
      {asking ? (
        <Confirm title="Cancel the job" action="Cancel the job" danger onClose={() => setAsking(false)} onDo={() => doIt("cancel")}>
          <p>{job.job_name || job.job_id} ends where it is, and there will be no output.</p>
        </Confirm>
      ) : null}
    </>
  );
}

/** How far a job is, drawn and in words. */
export function JobProgress({ job }: { job: BatchJob }) {
  const percent = job.progress?.percent_complete ?? 0;
  const name = `Progress of ${job.job_name || job.job_id}`;
  return (
    <div class="progress">
      <progress max={100} value={percent} aria-label={name} />
      <span>{percent >= 100 ? "100" : percent.toFixed(1)}{"\u202f"}%</span>
    </div>
  );
}
