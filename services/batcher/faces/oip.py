"""The Open Inference Protocol's predictions, whichever way they come."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.batcher.codec.oip_proto import TensorRequest
from services.batcher.domain import feature_tensors
from services.batcher.domain.features import JoinPlan
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.schema_check import schema_violation
from services.batcher.domain.tensor_check import output_violation
from services.batcher.faces.call import Call
from services.batcher.faces.catalog import VersionPlan
from services.batcher.faces.core import Core, requested_outputs
from services.common.errors import invalid


@dataclass(slots=True)
class TensorAnswer:
    """What a version answered. One is made for each request, hence not frozen: that costs a call for each field."""

    plan: VersionPlan
    result: InferResult
    request_id: str
    """As the caller stated it; empty where it stated none."""


async def infer_tensors(core: Core, call: Call, request: TensorRequest) -> TensorAnswer:
    """Checks and answers a request. Raises MeshError."""
    plan = core.resolve(call, request.model_name, request.version)
    call.name_request(request.request_id)
    template = request.template
    if template is not None and template.fits is plan:
        rows, inputs = template.rows, tuple(request.inputs)
    else:
        tensors = request.inputs if plan.join is None else await _joined(core, plan.join, plan, request.inputs)
        rows, inputs = plan.tensors.checked(tensors)
        if template is not None and plan.join is None and plan.tensors.at_a_glance(tensors):
            template.fits, template.rows = plan, rows
    outputs = request.outputs
    if outputs:
        for name in outputs:
            if name not in plan.outputs.specs:
                raise schema_violation(plan.served, [output_violation(plan.served, name)])
        if len(set(outputs)) < len(outputs):
            twice = next(name for place, name in enumerate(outputs) if name in outputs[:place])
            raise invalid("outputs", f"{twice} twice", "each output once")
        outputs = requested_outputs(plan, outputs)
    result = await core.infer(
        call,
        rows=rows,
        inputs=inputs,
        outputs=outputs,
        parameters=request.parameters,
        timeout_ms=request.timeout_ms,
    )
    core.succeeded(call)
    return TensorAnswer(plan, result, request.request_id)


async def _joined(core: Core, join: JoinPlan, plan: VersionPlan, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The tensors of the model's inputs, with features of a feature store added."""
    sent = feature_tensors.sent(join, tensors)
    joined = await core.features.join(join, sent.instances, prefix=feature_tensors.PREFIX)
    return feature_tensors.completed(join, plan.instances.features, sent.tensors, joined)
