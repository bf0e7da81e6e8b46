"""Whatever bytes are sent as a model: they are read, or refused as no model. Nothing else."""

from io import BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st

from services.registry.adapters.readers.onnx_model import read_onnx
from services.registry.adapters.readers.refused import RefusedError
from tests.support.registry_onnx import model

CONTENT = model().SerializeToString()
changes = st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=8)


def read_or_refuse(content: bytes) -> None:
    try:
        stated = read_onnx(BytesIO(content), len(content))
    except RefusedError as error:
        assert error.problem  # noqa: PT017 - one of two
    else:
        assert stated.inputs
        assert stated.outputs


@settings(max_examples=400, deadline=None)
@given(changes)
def test_changed_bytes(made: list[tuple[int, int]]) -> None:
    content = bytearray(CONTENT)
    for place, value in made:
        content[place] = value
    read_or_refuse(bytes(content))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=256))
def test_any_bytes(content: bytes) -> None:
    read_or_refuse(content)
