// What can be done with a batch job, by how it is.

interface State { status: string; paused: boolean }

export type Deed = "pause" | "resume" | "cancel" | "retry";

/** The deeds that a job's state allows. */
export function deedsOf(job: State): Deed[] {
  if (job.status === "failed" || job.status === "cancelled") return ["retry"];
  if (job.status !== "pending" && job.status !== "running") return [];
  return [job.paused ? "resume" : "pause", "cancel"];
}

/** The job's state in one word. */
export function stateOf(job: State): string {
  return job.paused && job.status === "pending" ? "paused" : job.status;
}
