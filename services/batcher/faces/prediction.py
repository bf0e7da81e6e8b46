"""`infermesh.prediction.v1.PredictionService`: typed and plain JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.api import httpbody_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2

from services.batcher.bridge.messages import Handler, StreamHandler
from services.batcher.codec import predict_json
from services.batcher.codec.oip_proto import parse
from services.batcher.codec.typed_requests import Asked, TypedTemplates, asked_in
from services.batcher.codec.typed_wire import explained
from services.batcher.domain.request import Tensor
from services.batcher.faces.call import Call
from services.batcher.faces.catalog import VersionPlan
from services.batcher.faces.core import Core
from services.batcher.faces.explainer import Explainer
from services.batcher.faces.grpc_stream import StreamMethod
from services.batcher.faces.grpc_unary import UnaryMethod
from services.common.grpc.status import status_from_error

SERVICE = "infermesh.prediction.v1.PredictionService"


class PredictionMethods:
    """The service's methods."""

    def __init__(self, core: Core, *, explainer: Explainer) -> None:
        self._core = core
        self._explainer = explainer
        self._templates = TypedTemplates()

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each path."""
        core = self._core
        return {
            f"/{SERVICE}/Predict": UnaryMethod("Predict", self._predict, core=core),
            f"/{SERVICE}/PredictJson": UnaryMethod("PredictJson", self._predict_json, core=core),
        }

    def streams(self) -> Mapping[str, StreamHandler]:
        """What answers the path of a stream."""
        return {f"/{SERVICE}/StreamPredict": StreamMethod("StreamPredict", self._stream_item, core=self._core)}

    async def _predict(self, call: Call, data: bytes) -> bytes:
        found = self._templates.find(data)
        if found is not None:
            template, content = found
            call.name_request(template.asked.request_id)
            plan = self._core.resolve(call, template.asked.model_name, template.asked.version)
            if plan.typed_reader is template.reader and plan.join is None:
                return await self._infer(call, plan, template.asked, 1, template.inputs(content))
        request = parse(prediction_pb2.PredictRequest, data)
        call.name_request(request.request_id)
        plan = self._core.resolve(call, request.model_name, request.version)
        instances, asked = request.instances, asked_in(request)
        rows = predict_json.check_rows(len(instances))
        if asked.explain and not self._explains(call, plan, rows):
            asked = replace(asked, explain=False)
        if plan.join is not None:
            return await self._infer(call, plan, asked, rows, await self._joined(plan, instances))
        inputs = plan.typed_reader.tensors(instances)
        self._templates.learn(data, asked, plan.typed_reader, inputs)
        return await self._infer(call, plan, asked, rows, inputs)

    async def _infer(self, call: Call, plan: VersionPlan, asked: Asked, rows: int, inputs: tuple[Tensor, ...]) -> bytes:
        core = self._core
        result = await core.infer(
            call,
            rows=rows,
            inputs=inputs,
            outputs=plan.outputs.needed,
            parameters=asked.parameters,
            timeout_ms=asked.timeout_ms,
        )
        explanations = await self._explainer.explain(call, result) if asked.explain else ()
        response = plan.typed_writer.response(
            result, call.scores, latency_ms=core.latency_ms(call), request_id=call.request_id
        )
        if explanations:
            response = explained(response, explanations)
        core.succeeded(call)
        return response

    async def _predict_json(self, call: Call, data: bytes) -> bytes:
        core = self._core
        message = parse(prediction_service_pb2.PredictJsonRequest, data)
        call.name_request("")
        # The model first: who asks for one that is not served learns that, whatever else is wrong.
        core.catalog.model(message.model_name, call.caller)
        call.model_name = message.model_name
        request = predict_json.read(message.body.data)
        if request.request_id:
            call.name_request(request.request_id)
        plan = core.resolve(call, message.model_name, request.version)
        explain = request.explain and self._explains(call, plan, len(request.instances))
        given, join = request.instances, plan.join
        result = await core.infer(
            call,
            rows=len(given),
            inputs=plan.instances.tensors(given if join is None else await core.features.join(join, given)),
            outputs=plan.outputs.needed,
            parameters=request.parameters,
            timeout_ms=request.timeout_ms,
        )
        explanations = await self._explainer.explain(call, result) if explain else ()
        body = plan.json_writer.response(
            result,
            call.scores,
            latency_ms=core.latency_ms(call),
            request_id=call.request_id,
            explanations=explanations,
        )
        core.succeeded(call)
        answer: bytes = httpbody_pb2.HttpBody(content_type="application/json", data=body).SerializeToString()
        return answer

    async def _stream_item(self, call: Call, data: bytes) -> bytes:
        answer = prediction_service_pb2.StreamPredictResponse()
        try:
            answer.response.MergeFromString(await self._predict(call, data))
        except Exception as error:
            answer.error.CopyFrom(status_from_error(self._core.failed(call, error, face="StreamPredict")))
        answer.request_id = call.request_id or call.name_request("")
        serialised: bytes = answer.SerializeToString()
        return serialised

    async def _joined(self, plan: VersionPlan, instances: Sequence[instance_pb2.Instance]) -> tuple[Tensor, ...]:
        """The input tensors, with features of a feature store added."""
        assert plan.join is not None
        return plan.instances.tensors(await self._core.features.join(plan.join, plan.typed_reader.rows(instances)))

    def _explains(self, call: Call, plan: VersionPlan, rows: int) -> bool:
        """Whether the predictions are to be explained: nobody reads what is said of a shadow copy. Raises where they
        cannot be."""
        if call.shadow:
            return False
        self._explainer.check(call, plan, rows)
        return True
