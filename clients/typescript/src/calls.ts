/** Calls as promises and async iteration, each with a deadline, failing with a MeshError. */
import { Metadata, type CallOptions, type ClientUnaryCall, type ServiceError } from "@grpc/grpc-js";

import type { Status } from "../gen/google/rpc/status.js";
import type { PredictRequest, PredictResponse } from "../gen/infermesh/prediction/v1/prediction.js";
import type { PredictionServiceClient } from "../gen/infermesh/prediction/v1/prediction_service.js";
import { type MeshError, statusToMeshError, toMeshError } from "./errors.js";

/** The deadline of a call that states none. */
export const DEADLINE_DEFAULT_MS = 10_000;

/** What one call is told beside its request. */
export interface CallSettings {
  /** How long the caller waits. */
  readonly timeoutMs?: number;
  /** Headers, for instance {"x-user-id": "u1"} for sticky traffic splits. */
  readonly headers?: Readonly<Record<string, string>>;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

/** Calls `method` of `client`, for instance `call(mesh.registry, mesh.registry.listModels, {...})`. */
export function call<Client, Request, Response>(
  client: Client,
  method: Unary<Request, Response>,
  request: Request,
  settings: CallSettings = {},
): Promise<Response> {
  return new Promise((resolve, reject) => {
    method.call(client, request, headers(settings), deadline(settings), (error, response) => {
      if (error === null) {
        resolve(response);
      } else {
        reject(toMeshError(error));
      }
    });
  });
}

/** One answer of a stream: what came of the request with that id. */
export type StreamResult =
  | { readonly requestId: string; readonly response: PredictResponse; readonly error?: undefined }
  | { readonly requestId: string; readonly response?: undefined; readonly error: MeshError };

/** Sends requests over one stream and yields their answers, in order. A request that fails does not end the stream. */
export async function* streamPredict(
  client: PredictionServiceClient,
  requests: Iterable<PredictRequest> | AsyncIterable<PredictRequest>,
  settings: CallSettings = {},
): AsyncGenerator<StreamResult> {
  const stream = client.streamPredict(headers(settings), deadline(settings));
  const sending = (async () => {
    for await (const request of requests) {
      if (!stream.write(request)) {
        await new Promise((resolve) => stream.once("drain", resolve));
      }
    }
    stream.end();
  })();
  sending.catch(() => stream.cancel());
  try {
    for await (const answer of stream) {
      const { requestId, result } = answer as { requestId: string; result?: Result };
      if (result?.$case === "response") {
        yield { requestId, response: result.value };
      } else if (result?.$case === "error") {
        yield { requestId, error: statusToMeshError(result.value) };
      }
    }
  } catch (error) {
    throw isServiceError(error) ? toMeshError(error) : error;
  } finally {
    stream.cancel();
  }
}

type Result = { $case: "response"; value: PredictResponse } | { $case: "error"; value: Status };

function headers(settings: CallSettings): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(settings.headers ?? {})) {
    metadata.set(key, value);
  }
  return metadata;
}

function deadline(settings: CallSettings): Partial<CallOptions> {
  return { deadline: Date.now() + (settings.timeoutMs ?? DEADLINE_DEFAULT_MS) };
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}
