/** Errors with the details that the mesh sends: reason, metadata, wrong fields, when to try again. */
import type { Metadata, ServiceError, status } from "@grpc/grpc-js";

import { Status } from "../gen/google/rpc/status.js";
import { BadRequest, ErrorInfo, RetryInfo } from "../gen/google/rpc/error_details.js";

const DETAILS_KEY = "grpc-status-details-bin";
const TYPE_PREFIX = "type.googleapis.com/google.rpc.";

/** One wrong field: its path, and what is wrong with it and what is allowed. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** A call that failed, understood. */
export class MeshError extends Error {
  override readonly name = "MeshError";

  constructor(
    /** The gRPC status code. */
    readonly code: status,
    message: string,
    /** Why, in one word that programs may branch on: an ErrorReason's name. Empty: the mesh did not say. */
    readonly reason: string,
    /** For programs: short keys, short values. */
    readonly metadata: Readonly<Record<string, string>>,
    readonly violations: readonly FieldViolation[],
    /** When trying again makes sense, in milliseconds. Undefined: it does not. */
    readonly retryAfterMs: number | undefined,
    options: ErrorOptions = {},
  ) {
    super(message, options);
  }
}

/** The MeshError that a failed call stands for. */
export function toMeshError(error: ServiceError): MeshError {
  return fromStatus(error.code, error.details, detailsOf(error.metadata), { cause: error });
}

/** The MeshError that a status inside a message stands for, as `StreamPredict` sends it. */
export function statusToMeshError(message: Status): MeshError {
  return fromStatus(message.code, message.message, message);
}

function detailsOf(metadata: Metadata | undefined): Status | undefined {
  const value = metadata?.get(DETAILS_KEY)[0];
  return value instanceof Uint8Array ? Status.decode(value) : undefined;
}

function fromStatus(code: status, message: string, details: Status | undefined, options: ErrorOptions = {}): MeshError {
  let reason = "";
  let metadata: Record<string, string> = {};
  let violations: FieldViolation[] = [];
  let retryAfterMs: number | undefined;
  for (const detail of details?.details ?? []) {
    if (detail.typeUrl === `${TYPE_PREFIX}ErrorInfo`) {
      ({ reason, metadata } = ErrorInfo.decode(detail.value));
    } else if (detail.typeUrl === `${TYPE_PREFIX}BadRequest`) {
      violations = BadRequest.decode(detail.value).fieldViolations.map(({ field, description }) => ({ field, description }));
    } else if (detail.typeUrl === `${TYPE_PREFIX}RetryInfo`) {
      const delay = RetryInfo.decode(detail.value).retryDelay;
      retryAfterMs = delay === undefined ? undefined : Number(delay.seconds) * 1000 + delay.nanos / 1e6;
    }
  }
  return new MeshError(code, message, reason, metadata, violations, retryAfterMs, options);
}
