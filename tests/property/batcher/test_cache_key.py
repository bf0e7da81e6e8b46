"""Two rows have the same key exactly where they are the same to a model, and are asked for by the same team."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.cache_key import common_bytes, common_digest, common_key, redis_key, row_keys
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, Parameter, Tensor
from services.batcher.domain.rows import RowsError
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import pack_bytes
from services.common.schema import DataType, ModelSchema

# Few letters and lengths, so that what is framed badly is the same as something else soon.
names = st.text("ab", max_size=2)
texts = st.binary(max_size=3).map(lambda data: bytes(byte % 3 for byte in data))
TYPES = (DataType.INT8, DataType.UINT8, DataType.INT16, DataType.BYTES)
parameter_values: st.SearchStrategy[Parameter] = st.one_of(
    st.text("01.s", max_size=2), st.integers(0, 2), st.booleans(), st.sampled_from([0.0, 1.0, 2.5])
)


@dataclass(frozen=True)
class OneRow:
    """Everything that tells one row from another."""

    model: str
    version: str
    digest: str
    deployment: str
    tenant: str
    inputs: tuple[tuple[str, DataType, tuple[int, ...], tuple[bytes, ...] | bytes], ...]
    outputs: tuple[str, ...]
    parameters: tuple[tuple[str, str, Parameter], ...]


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, DataType, tuple[int, ...], tuple[bytes, ...] | bytes]:
    data_type = draw(st.sampled_from(TYPES))
    shape = draw(st.sampled_from([(), (1,), (2,), (1, 2)]))
    count = 2 if 2 in shape else 1
    if data_type is DataType.BYTES:
        return draw(names), data_type, shape, tuple(draw(st.lists(texts, min_size=count, max_size=count)))
    size = count * data_type.size_bytes
    return draw(names), data_type, shape, bytes(draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)))


rows = st.builds(
    OneRow,
    names,
    st.sampled_from(["v1.0.0", "v1.0.1"]),
    st.sampled_from(["", "a", "b"]),
    names,
    names,
    st.lists(tensors(), min_size=1, max_size=3).map(tuple),
    st.lists(names, max_size=3).map(tuple),
    st.dictionaries(names, parameter_values, max_size=2).map(
        lambda given: tuple((name, type(value).__name__, value) for name, value in sorted(given.items()))
    ),
)

FIELDS = [one.name for one in fields(OneRow)]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[OneRow, OneRow]:
    """Two rows that share most: what tells them apart is often a single thing, and often nothing."""
    one, other = draw(rows), draw(rows)
    taken = draw(st.sets(st.sampled_from(FIELDS), max_size=2))
    return one, replace(one, **{name: getattr(other, name) for name in taken})


def request_of(*same: OneRow) -> InferRequest:
    """A request with these rows, which differ in their inputs' data alone."""
    first = same[0]
    version = ServedVersion(
        first.model, first.version, first.deployment, ModelSchema((), ()), artifact_digest=first.digest
    )
    inputs = []
    for place, (name, data_type, shape, _) in enumerate(first.inputs):
        data = b"".join(_packed(row.inputs[place][3]) for row in same)
        inputs.append(Tensor(name, data_type, (len(same), *shape), data))
    parameters = tuple((name, value) for name, _, value in first.parameters)
    return InferRequest(
        version, len(same), tuple(inputs), 1.0, first.outputs, parameters, request_id="r", tenant=first.tenant
    )


def keys_of(*same: OneRow) -> Sequence[bytes]:
    request = request_of(*same)
    return row_keys(common_digest(request), request).keys


def _packed(data: tuple[bytes, ...] | bytes) -> bytes:
    return data if isinstance(data, bytes) else pack_bytes(data)


@given(st.one_of(pairs(), st.tuples(rows, rows)))
def test_what_differs_in_anything_has_another_key(pair: tuple[OneRow, OneRow]) -> None:
    one, other = pair
    assert (keys_of(one) == keys_of(other)) == (one == other)
    alike = common_bytes(request_of(one)) == common_bytes(request_of(other))
    assert alike == (common_key(request_of(one)) == common_key(request_of(other)))
    signatures = [[item[:3] for item in row.inputs] for row in (one, other)]
    rest = [
        (row.model, row.version, row.digest, row.deployment, row.tenant, row.outputs, row.parameters)
        for row in (one, other)
    ]
    assert alike == (signatures[0] == signatures[1] and rest[0] == rest[1])


@given(rows, st.data())
def test_a_row_has_the_same_key_whatever_rows_stand_beside_it(row: OneRow, data: st.DataObject) -> None:
    beside = [
        OneRow(
            row.model,
            row.version,
            row.digest,
            row.deployment,
            row.tenant,
            tuple((name, kind, shape, data.draw(_like(value))) for name, kind, shape, value in row.inputs),
            row.outputs,
            row.parameters,
        )
        for _ in range(2)
    ]
    together = (beside[0], row, beside[1])
    assert keys_of(*together) == tuple(keys_of(one)[0] for one in together)


def _like(value: tuple[bytes, ...] | bytes) -> st.SearchStrategy[tuple[bytes, ...] | bytes]:
    if isinstance(value, bytes):
        return st.binary(min_size=len(value), max_size=len(value))
    return st.tuples(*[texts for _ in value])


@given(rows)
def test_neither_time_nor_id_nor_priority_are_part_of_a_key(row: OneRow) -> None:
    request = request_of(row)
    other = InferRequest(
        request.served,
        request.rows,
        request.inputs,
        99.0,
        request.outputs,
        request.parameters,
        "another",
        request.tenant,
        priority=Priority.BACKGROUND,
    )
    assert common_digest(request) == common_digest(other)
    assert common_key(request) == common_key(other)


@pytest.mark.parametrize(
    ("data_type", "data"),
    [
        (DataType.INT16, b"\0" * 3),
        (DataType.BYTES, b"\x05\0\0\0ab"),
        (DataType.BYTES, b"\x01\0\0\0ab"),
        (DataType.BYTES, b"\x01\0"),
    ],
)
@pytest.mark.parametrize("rows_count", [1, 2])
def test_data_that_is_not_what_its_shape_says_has_no_key(data_type: DataType, data: bytes, rows_count: int) -> None:
    version = ServedVersion("m", "v1.0.0", "d", ModelSchema((), ()), artifact_digest="a")
    request = InferRequest(version, rows_count, (Tensor("x", data_type, (rows_count, 1), data),), 1.0)
    with pytest.raises(RowsError):
        row_keys(common_digest(request), request)


def test_operators_find_the_entries_of_a_version_in_redis() -> None:
    assert redis_key("fraud", "v3.0.0", bytes(range(32))) == f"pred:fraud:v3.0.0:{bytes(range(32)).hex()}"
