/**
 * Drives a mesh as a user's program would and prints what it saw as one JSON object, for a test to judge.
 * Usage: node drive.js HOST:PORT, with {"model", "instances": [{feature: value}]} on standard input.
 */
import { text } from "node:stream/consumers";

import { call, connect, instance, MeshError, streamPredict, type Plain } from "../src/index.js";
import { PredictRequest, type PredictResponse } from "../gen/infermesh/prediction/v1/prediction.js";
import { ListModelsRequest } from "../gen/infermesh/registry/v1/registry_service.js";
import { GetTrafficRequest } from "../gen/infermesh/router/v1/router_service.js";

interface Task {
  readonly model: string;
  readonly instances: readonly Record<string, Plain>[];
}

const address = process.argv[2];
if (address === undefined) {
  throw new Error("usage: node drive.js HOST:PORT");
}
const task = JSON.parse(await text(process.stdin)) as Task;
const mesh = connect(address);

function request(requestId: string, instances: Task["instances"], model = task.model): PredictRequest {
  return PredictRequest.fromPartial({
    modelName: model,
    instances: instances.map(instance),
    timeoutMs: 5000,
    requestId,
  });
}

function seen(response: PredictResponse) {
  return {
    version: response.modelVersion,
    requestId: response.requestId,
    classes: response.predictions.map((prediction) => prediction.className),
    confidences: response.predictions.map((prediction) => prediction.confidence),
  };
}

async function failure(work: Promise<unknown>) {
  try {
    await work;
  } catch (error) {
    if (error instanceof MeshError) {
      const { code, message, reason, metadata, violations } = error;
      return { code, message, reason, metadata, violations };
    }
    throw error;
  }
  throw new Error("the call should have failed");
}

function* streamed(): Generator<PredictRequest> {
  for (const [place, row] of task.instances.entries()) {
    yield request(`node-${place}`, [row]);
  }
  yield request("node-wrong", [{ no_such_feature: 1 }]);
}

try {
  const prediction = mesh.prediction;
  const predicted = await call(prediction, prediction.predict, request("node-unary", task.instances));
  const stream = [];
  for await (const answer of streamPredict(prediction, streamed())) {
    stream.push(
      answer.error === undefined
        ? { requestId: answer.requestId, classes: seen(answer.response).classes }
        : { requestId: answer.requestId, reason: answer.error.reason },
    );
  }
  const listed = await call(mesh.registry, mesh.registry.listModels, ListModelsRequest.fromPartial({ pageSize: 100 }));
  const traffic = await call(mesh.router, mesh.router.getTraffic, GetTrafficRequest.fromPartial({ modelName: task.model }));
  const unknownModel = await failure(call(prediction, prediction.predict, request("node-unknown", task.instances, "no-such-model")));
  const wrongInstance = await failure(call(prediction, prediction.predict, request("node-bad", [{ no_such_feature: 1 }])));
  console.log(
    JSON.stringify({
      predicted: seen(predicted),
      stream,
      models: listed.models.map((model) => model.name),
      traffic: { split: traffic.trafficSplit, ready: traffic.readyVersions },
      unknownModel,
      wrongInstance,
    }),
  );
} finally {
  mesh.close();
}
