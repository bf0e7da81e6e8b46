"""A wish to pad a version is held against its schema before it is stored."""

from dataclasses import replace

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.common.signals import Signal
from services.deployer.domain.deployment import Batching, NewDeployment, Padding, Wish
from services.deployer.domain.padding import check_padding
from services.deployer.domain.trial import trial_inputs
from services.deployer.engines.deployments import Deployments
from tests.support.clock import FakeClock
from tests.support.deployer_fakes import FakeVersions, admission, recipe
from tests.support.deployer_store import MemoryStore

SCHEMA = ModelSchema(
    (
        TensorSpec("ids", DataType.INT64, (-1,)),
        TensorSpec("mask", DataType.UINT8, (-1,)),
        TensorSpec("words", DataType.BYTES, (-1, 2)),
        TensorSpec("lengths", DataType.INT32, (1,)),
        TensorSpec("fixed", DataType.FP32, (3,)),
    ),
    (TensorSpec("logits", DataType.FP32, (-1, 2)), TensorSpec("label", DataType.INT64)),
)
GOOD = Padding(7, {"mask": 0, "words": 0.5}, "lengths", ("logits",), 0.5)


def test_what_fits_the_schema_is_taken() -> None:
    check_padding(None, ModelSchema())
    check_padding(GOOD, SCHEMA)
    check_padding(Padding(), SCHEMA)


@pytest.mark.parametrize(
    ("padding", "fields"),
    [
        (replace(GOOD, waste_max=1.0), ["batching.padding.waste_max"]),
        (replace(GOOD, waste_max=float("nan")), ["batching.padding.waste_max"]),
        (replace(GOOD, lengths_input="fixed"), ["batching.padding.lengths_input"]),
        (replace(GOOD, lengths_input="ids"), ["batching.padding.lengths_input"]),
        (replace(GOOD, trim_outputs=("label", "none")), ["batching.padding.trim_outputs"] * 2),
        (replace(GOOD, input_values={"fixed": 0}), ["batching.padding.input_values"]),
        (replace(GOOD, value=0.5, input_values={"mask": 0}), ["batching.padding.value"]),
        (replace(GOOD, value=1e19), ["batching.padding.value"]),
        (replace(GOOD, value=float("inf")), ["batching.padding.value"]),
        (replace(GOOD, input_values={"mask": -1}), ["batching.padding.input_values.mask"]),
        (replace(GOOD, input_values={"mask": 256}), ["batching.padding.input_values.mask"]),
    ],
)
def test_everything_that_does_not_fit_is_named(padding: Padding, fields: list[str]) -> None:
    with pytest.raises(MeshError) as refused:
        check_padding(padding, SCHEMA)
    assert refused.value.reason is Reason.INVALID_FIELD
    assert [one.field for one in refused.value.violations] == fields


def test_an_input_that_cannot_tell_lengths_is_told_its_shape() -> None:
    flat = TensorSpec("flat", DataType.INT64)
    with pytest.raises(MeshError, match=r"allowed: .* shape \[1\] \(\[N, 1\].*\); it is INT64 with rows of shape \[\]"):
        check_padding(Padding(lengths_input="flat"), replace(SCHEMA, inputs=(*SCHEMA.inputs, flat)))
    with pytest.raises(MeshError, match=r"'none'; allowed: .* with the batch\)$"):
        check_padding(Padding(lengths_input="none"), SCHEMA)


@pytest.mark.parametrize(
    ("data_type", "good", "bad"),
    [
        (DataType.BOOL, 1, 2),
        (DataType.INT8, -128, 128),
        (DataType.UINT64, 2**63, -1),
        (DataType.FP16, 65_504, 65_505),
        (DataType.FP32, 1e38, 1e39),
        (DataType.FP64, 1e300, float("nan")),
    ],
)
def test_a_value_must_be_one_of_the_inputs_type(data_type: DataType, good: float, bad: float) -> None:
    schema = ModelSchema((TensorSpec("x", data_type, (-1,)),), (TensorSpec("y", DataType.FP32),))
    check_padding(Padding(good), schema)
    with pytest.raises(MeshError, match=f"a value of {data_type.value}"):
        check_padding(Padding(bad), schema)


async def test_a_deployment_that_cannot_be_padded_is_not_stored() -> None:
    store = MemoryStore(FakeClock())
    engine = Deployments(
        store=store,
        admission=admission(store, FakeVersions({("digits", "v1.0.0"): recipe()})),
        clock=FakeClock(),
        changed=Signal(),
        drain_wait_s=0,
    )
    wish = Wish(batching=Batching(padding=Padding()))
    with pytest.raises(MeshError, match="no input has a variable dimension"):
        await engine.create(NewDeployment("digits", "v1.0.0", "main", wish))
    assert list(await store.every()) == []
    await engine.create(NewDeployment("digits", "v1.0.0", "main", Wish()))
    with pytest.raises(MeshError, match="no input has a variable dimension"):
        await engine.update("digits", "main", etag="", change=lambda _: wish)


def test_a_trial_tells_the_lengths_that_its_rows_have() -> None:
    tried = {tensor.name: (tensor.shape, tensor.data) for tensor in trial_inputs(SCHEMA, 2, lengths_input="lengths")}
    assert tried["ids"] == ((2, 1), [0, 0])
    assert tried["lengths"] == ((2, 1), [1, 1])
    assert trial_inputs(SCHEMA, 2)[3].data == [0, 0]
