// What an error of the API says, and what a reader can do next.

/** A field of the request that was wrong. */
export interface Violation {
  field: string;
  description: string;
}

/** An answer that was no success, or none at all (`status` 0). */
export class ApiError extends Error {
  readonly status: number;
  /** The word for programs, such as "ETAG_MISMATCH". Empty: none was said. */
  readonly reason: string;
  readonly violations: readonly Violation[];

  constructor(status: number, message: string, reason = "", violations: readonly Violation[] = []) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.violations = violations;
  }

  /** What to do about it, in one sentence. Empty: the message says it. */
  get nextStep(): string {
    return nextStep(this.status, this.reason);
  }
}

/** The error in a body as the gateway writes it: `{"code", "message", "details"}`. What is no such body is quoted. */
export function errorFrom(status: number, text: string): ApiError {
  const body = asObject(parsed(text));
  const details = Array.isArray(body["details"]) ? body["details"].map(asObject) : [];
  const typed = (name: string) => details.find((detail) => String(detail["@type"]).endsWith(name)) ?? {};
  const fields = typed("google.rpc.BadRequest");
  const violations = fields["field_violations"] ?? fields["fieldViolations"];
  return new ApiError(
    status,
    typeof body["message"] === "string" && body["message"] !== ""
      ? body["message"]
      : `the answer is ${status} without a message: ${text.slice(0, 200) || "nothing"}`,
    String(typed("google.rpc.ErrorInfo")["reason"] ?? ""),
    (Array.isArray(violations) ? violations.map(asObject) : []).map((one) => ({
      field: String(one["field"] ?? ""),
      description: String(one["description"] ?? ""),
    })),
  );
}

/** The next step that a status calls for. */
export function nextStep(status: number, reason: string): string {
  if (status === 0) return "Look whether the mesh runs; make run starts it on one machine. This page tries again by itself.";
  if (status === 401) return "Enter an API key with the button Key. make key makes one for an operator.";
  if (status === 403) return "Use a key whose team or role may do this; an admin of the team makes one with infermesh keys create.";
  if (reason === "ETAG_MISMATCH") return "Someone else was quicker. Look at what holds now, and plan again.";
  if (reason === "ROLLOUT_IN_PROGRESS") return "End the canary or the A/B test first, under Releases.";
  if (reason === "NOT_IMPLEMENTED") return "";
  if (status === 429 || status === 503) return "This page tries again by itself.";
  return "";
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
