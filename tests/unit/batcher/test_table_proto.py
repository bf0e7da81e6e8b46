"""The serving table's messages become values, or are refused with the model and the field."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from infermesh.common.v1 import schema_pb2, serving_pb2

from services.batcher.adapters.serving_proto import models_from_proto
from services.batcher.domain.serving import Backend, Batching, Protocol, ShadowComparison, ShadowTarget
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, PredictionMapping, TensorSpec

Change = Callable[[serving_pb2.ServedModel], object]


def model() -> serving_pb2.ServedModel:
    return serving_pb2.ServedModel(
        model_name="digits",
        default_version="v1.0.0",
        team="vision",
        versions=[
            serving_pb2.ServedVersion(
                version="v1.0.0",
                artifact_digest="ab",
                deployment_name="prod",
                deterministic=True,
                schema=schema_pb2.ModelSchema(
                    inputs=[
                        schema_pb2.TensorSpec(
                            name="x", data_type=schema_pb2.DATA_TYPE_FP32, shape=[-1, 2], minimum=0.0, optional=True
                        )
                    ],
                    outputs=[
                        schema_pb2.TensorSpec(name="y", data_type=schema_pb2.DATA_TYPE_INT64),
                        schema_pb2.TensorSpec(name="p", data_type=schema_pb2.DATA_TYPE_FP32, shape=[2]),
                    ],
                ),
                mapping=schema_pb2.PredictionMapping(
                    output_tensor="y", probabilities_tensor="p", class_names=["no", "yes"]
                ),
                batching=serving_pb2.BatchingPolicy(
                    enabled=True, max_batch_size=8, batch_timeout_ms=5.0, target_latency_ms=40.0
                ),
                backends=[
                    serving_pb2.Backend(
                        backend_id="triton-0",
                        http_address="h:1",
                        grpc_address="h:2",
                        server_model_name="digits--v1.0.0",
                        capacity=2.0,
                    )
                ],
            )
        ],
    )


def shadow(version: str, **comparison: Any) -> serving_pb2.ShadowTarget:
    return serving_pb2.ShadowTarget(version=version, percent=10, comparison=serving_pb2.ShadowComparison(**comparison))


def test_a_version_that_is_cold_says_so_and_has_no_backend() -> None:
    message = model()
    assert not models_from_proto([message])["digits"].versions["v1.0.0"].cold
    message.versions[0].cold = True
    del message.versions[0].backends[:]
    version = models_from_proto([message])["digits"].versions["v1.0.0"]
    assert (version.cold, version.backends) == (True, ())


def test_what_a_model_does_with_answers_arrives() -> None:
    message = model()
    message.log_labels = True
    message.aliases["champion"] = "v1.0.0"
    message.shadows.extend([
        shadow("v2.0.0", method="top_k", top_k=3),
        shadow("v3.0.0", method="tolerance", absolute_tolerance=0.0, relative_tolerance=0.5),
        serving_pb2.ShadowTarget(version="v4.0.0", percent=100),
    ])  # fmt: skip
    (served,) = models_from_proto([message]).values()
    assert (served.log_labels, served.aliases) == (True, {"champion": "v1.0.0"})
    assert served.shadows == (
        ShadowTarget("v2.0.0", 10, ShadowComparison("top_k", 3, 1e-6, 1e-3)),
        ShadowTarget("v3.0.0", 10, ShadowComparison("tolerance", 5, 0.0, 0.5)),
        ShadowTarget("v4.0.0", 100, ShadowComparison()),
    )


def test_every_field_arrives() -> None:
    (served,) = models_from_proto([model()]).values()
    assert (served.model_name, served.default_version, served.team) == ("digits", "v1.0.0", "vision")
    version = served.versions["v1.0.0"]
    assert (version.model_name, version.version, version.team) == ("digits", "v1.0.0", "vision")
    assert (version.artifact_digest, version.deployment_name, version.deterministic) == ("ab", "prod", True)
    assert version.schema.inputs == (TensorSpec("x", DataType.FP32, (-1, 2), optional=True, minimum=0.0),)
    assert version.schema.outputs == (TensorSpec("y", DataType.INT64), TensorSpec("p", DataType.FP32, (2,)))
    assert version.mapping == PredictionMapping("y", "p", ("no", "yes"))
    assert version.batching == Batching(True, 8, 5.0, 40.0)
    assert version.backends == (Backend("triton-0", "h:1", "h:2", "digits--v1.0.0", 2.0),)


def test_what_is_not_said_has_its_default() -> None:
    message = model()
    message.versions[0].ClearField("batching")
    message.versions[0].backends[0].ClearField("capacity")
    version = models_from_proto([message])["digits"].versions["v1.0.0"]
    assert version.batching == Batching()
    assert version.backends[0].capacity == 1.0


def test_a_batch_without_a_size_has_the_default_one() -> None:
    message = model()
    message.versions[0].batching.max_batch_size = 0
    assert models_from_proto([message])["digits"].versions["v1.0.0"].batching.max_batch_size == 32


def test_who_may_call_and_what_a_replica_has_is_told() -> None:
    message = model()
    plain = models_from_proto([message])["digits"]
    assert (plain.team, plain.shared_with, plain.versions["v1.0.0"].gpus) == ("vision", (), 0.0)
    message.shared_with.extend(["risk", "search"])
    message.versions[0].gpus = 0.5
    shared = models_from_proto([message])["digits"]
    assert (shared.shared_with, shared.versions["v1.0.0"].gpus) == (("risk", "search"), 0.5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda it: setattr(it, "model_name", ""), "model_name"),
        (lambda it: setattr(it.versions[0], "version", ""), "version"),
        (lambda it: it.versions.add().CopyFrom(it.versions[0]), "version"),
        (lambda it: setattr(it.versions[0].schema.inputs[0], "data_type", 0), "inputs[0].data_type"),
        (lambda it: setattr(it.versions[0].schema.outputs[0], "data_type", 99), "outputs[0].data_type"),
        (lambda it: setattr(it.versions[0].schema.inputs[0], "name", ""), "schema.inputs.name"),
        (lambda it: setattr(it.versions[0].schema.outputs[1], "name", "y"), "schema.outputs.name"),
        (lambda it: it.versions[0].schema.ClearField("outputs"), "schema.outputs"),
        (lambda it: setattr(it.versions[0].mapping, "output_tensor", "z"), "mapping.output_tensor"),
        (lambda it: setattr(it.versions[0].mapping, "probabilities_tensor", "z"), "mapping.probabilities_tensor"),
        (lambda it: setattr(it.versions[0].batching, "batch_timeout_ms", math.nan), "batching.batch_timeout_ms"),
        (lambda it: setattr(it.versions[0].batching, "batch_timeout_ms", -1), "batching.batch_timeout_ms"),
        (lambda it: setattr(it.versions[0].batching, "batch_timeout_ms", 10_001), "batching.batch_timeout_ms"),
        (lambda it: setattr(it.versions[0].batching, "target_latency_ms", math.inf), "batching.target_latency_ms"),
        (lambda it: setattr(it.versions[0], "gpus", -0.5), "gpus"),
        (lambda it: setattr(it.versions[0], "gpus", math.nan), "gpus"),
        (lambda it: setattr(it.versions[0].backends[0], "capacity", -1), "backends.capacity"),
        (lambda it: setattr(it.versions[0].backends[0], "capacity", math.nan), "backends.capacity"),
        (lambda it: it.shadows.add(version="v2.0.0", percent=0), "shadows.percent"),
        (lambda it: it.shadows.add(version="v2.0.0", percent=101), "shadows.percent"),
        (lambda it: it.shadows.add(percent=1), "shadows.version"),
        (lambda it: it.shadows.extend([shadow("v2.0.0"), shadow("v2.0.0")]), "shadows.version"),
        (lambda it: it.shadows.append(shadow("v2.0.0", method="same")), "shadows.comparison.method"),
        (lambda it: it.shadows.append(shadow("v2.0.0", top_k=101)), "shadows.comparison.top_k"),
        (lambda it: it.shadows.append(shadow("v2.0.0", absolute_tolerance=-1.0)), "comparison.absolute_tolerance"),
        (lambda it: it.shadows.append(shadow("v2.0.0", relative_tolerance=math.nan)), "comparison.relative_tolerance"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_model_and_the_field(change: Change, field: str) -> None:
    message = model()
    change(message)
    with pytest.raises(MeshError) as caught:
        models_from_proto([message])
    assert caught.value.reason is Reason.INVALID_FIELD
    assert f"{field} is" in caught.value.message
    assert message.model_name in caught.value.message


def test_a_model_comes_once() -> None:
    with pytest.raises(MeshError, match="each model once"):
        models_from_proto([model(), model()])


def test_a_backend_says_what_it_is_spoken_to_by_and_one_that_nobody_here_speaks_is_left_out() -> None:
    message = model()
    message.versions[0].backends.add(
        backend_id="a:1",
        grpc_address="grpcs://a:1",
        server_model_name="m",
        protocol="tensorflow-grpc",
        server_model_version="3",
        signature_name="s",
        credentials="vision/token",
    )
    message.versions[0].backends.add(backend_id="b:1", http_address="b:1", protocol="of tomorrow")
    ours, theirs = models_from_proto([message])["digits"].versions["v1.0.0"].backends
    assert (ours.protocol, ours.server, ours.address) == (Protocol.MESH, "h:1", "h:1")
    assert (theirs.server, theirs.address) == ("tensorflow-grpc://grpcs://a:1#vision/token", "grpcs://a:1")
    assert theirs.credentials == "vision/token"
    assert theirs.server_model == ("m", "3", "s")
