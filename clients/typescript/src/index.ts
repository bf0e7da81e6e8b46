/**
 * Typed gRPC client of infermesh for Node: one connection, a stub per public service, errors with their details.
 *
 * Messages and stubs are generated from protos/ into gen/; this file only puts them together.
 */
import {
  credentials,
  InterceptingCall,
  type ChannelCredentials,
  type ChannelOptions,
  type Interceptor,
} from "@grpc/grpc-js";

import { BatchServiceClient } from "../gen/infermesh/batch/v1/batch_service.js";
import { DeployerServiceClient } from "../gen/infermesh/deployer/v1/deployer_service.js";
import { MonitorServiceClient } from "../gen/infermesh/monitor/v1/monitor_service.js";
import { PredictionServiceClient } from "../gen/infermesh/prediction/v1/prediction_service.js";
import { RegistryServiceClient } from "../gen/infermesh/registry/v1/registry_service.js";
import { RouterServiceClient } from "../gen/infermesh/router/v1/router_service.js";

export { feature, instance, type Plain } from "./instances.js";
export { MeshError, toMeshError } from "./errors.js";
export * from "./calls.js";

/** How to reach a mesh. */
export interface ConnectOptions {
  /** A key of the mesh, or a user's token; sent with every call. Default: what INFERMESH_API_KEY says. */
  readonly apiKey?: string;
  /** TLS. Default: none, as the local mesh has it. */
  readonly credentials?: ChannelCredentials;
  /** Passed on to `@grpc/grpc-js`. */
  readonly channel?: ChannelOptions;
}

/** Requests and answers of 10 MB are part of the contract; the rest is room for framing. */
const MESSAGE_MAX_BYTES = 12 * 1024 * 1024;

/** A stub per public service, over one connection. */
export interface Mesh {
  readonly prediction: PredictionServiceClient;
  readonly registry: RegistryServiceClient;
  readonly deployer: DeployerServiceClient;
  readonly router: RouterServiceClient;
  readonly batch: BatchServiceClient;
  readonly monitor: MonitorServiceClient;
  /** Ends the connection; calls in flight are finished. */
  close(): void;
}

/** Connects to the gateway at `address` (host:port). The connection is made with the first call. */
export function connect(address: string, options: ConnectOptions = {}): Mesh {
  const channel: ChannelOptions = {
    "grpc.max_receive_message_length": MESSAGE_MAX_BYTES,
    "grpc.max_send_message_length": MESSAGE_MAX_BYTES,
    ...options.channel,
  };
  const secured = options.credentials ?? credentials.createInsecure();
  const key = options.apiKey ?? process.env["INFERMESH_API_KEY"] ?? "";
  const own = { ...channel, interceptors: key === "" ? [] : [bearing(key)] };
  const prediction = new PredictionServiceClient(address, secured, own);
  const shared = { ...own, channelOverride: prediction.getChannel() };
  return {
    prediction,
    registry: new RegistryServiceClient(address, secured, shared),
    deployer: new DeployerServiceClient(address, secured, shared),
    router: new RouterServiceClient(address, secured, shared),
    batch: new BatchServiceClient(address, secured, shared),
    monitor: new MonitorServiceClient(address, secured, shared),
    close: () => prediction.close(),
  };
}

/** Adds the key to every call. Not as call credentials: those are refused on connections without TLS. */
function bearing(key: string): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start: (metadata, listener, next) => {
        metadata.set("authorization", `Bearer ${key}`);
        next(metadata, listener);
      },
    });
}
