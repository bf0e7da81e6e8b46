"""Rows that are partly an instance and partly a reference row, as tensors of the Open Inference Protocol.

Who plays for the output: each feature is one player, with all its elements. Where a version has a single feature with 2
to 1024 elements in a row, the elements play instead, because one player would take all and nothing would be explained.
"""

from collections.abc import Sequence
from itertools import pairwise, product
from math import prod

import numpy as np
import numpy.typing as npt

from services.batcher.domain.request import Tensor
from services.batcher.domain.rows import text_ends
from services.batcher.domain.shapley import PLAYERS_MAX, Mask, Mixtures
from services.batcher.domain.tensors import shape_text
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec

_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Elements are moved and never read, so any type of their size will do."""
_Words = npt.NDArray[np.unsignedinteger[npt.NBitBase]]


class Players:
    """Who plays, decided by the shapes of a request's tensors."""

    __slots__ = ("by_element", "names")

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        rows = [tensor.shape[1:] for tensor in inputs]
        self.by_element = len(inputs) == 1 and 2 <= prod(rows[0]) <= PLAYERS_MAX
        """Whether the elements of the only feature are told apart."""
        self.names: tuple[str, ...] = (
            _element_names(inputs[0].name, rows[0]) if self.by_element else tuple(tensor.name for tensor in inputs)
        )
        """As explanations name them: a feature, or an element as "X[3]" or "X[1][0]"."""


class Mixer:
    """Mixes rows of a request with a sample. Raises EXPLANATION_UNAVAILABLE where their tensors differ in shape."""

    def __init__(self, inputs: Sequence[Tensor], sample: Sequence[Tensor]) -> None:
        check_alike(inputs, sample)
        self.players = Players(inputs)
        columns = zip(inputs, sample, strict=True)
        self._columns = [_column(one, other, by_element=self.players.by_element) for one, other in columns]
        self.row_bytes = sum(len(tensor.data) // max(1, tensor.shape[0]) for tensor in inputs)
        """Bytes of a row of the request, on average."""

    def tensors(self, row: int, mixtures: Mixtures) -> tuple[Tensor, ...]:
        """The mixtures of one row of the request, as a request of their own."""
        taken, places = mixtures.taken, mixtures.references
        if self.players.by_element:
            return (self._columns[0].mixed(row, taken, places),)
        return tuple(
            column.mixed(row, taken[:, player : player + 1], places) for player, column in enumerate(self._columns)
        )


class _Fixed:
    """A feature whose elements all have one size."""

    def __init__(self, tensor: Tensor, sample: Tensor) -> None:
        self._tensor = tensor
        word = _WORDS[tensor.data_type.size_bytes]
        self._rows: _Words = np.frombuffer(tensor.data, word).reshape(tensor.shape[0], -1)
        self._sample: _Words = np.frombuffer(sample.data, word).reshape(sample.shape[0], -1)

    def mixed(self, row: int, taken: Mask, places: npt.NDArray[np.intp]) -> Tensor:
        """`taken` has one column for the whole feature or one for each element."""
        tensor = self._tensor
        data = np.where(taken, self._rows[row], self._sample[places]).tobytes()
        return Tensor(tensor.name, tensor.data_type, (len(places), *tensor.shape[1:]), data)


class _Text:
    """A feature of BYTES, in cells: one for the whole feature or one for each element, lengths included."""

    def __init__(self, tensor: Tensor, sample: Tensor, *, by_element: bool) -> None:
        self._tensor = tensor
        self._rows = _cells(tensor, by_element=by_element)
        self._sample = _cells(sample, by_element=by_element)

    def mixed(self, row: int, taken: Mask, places: npt.NDArray[np.intp]) -> Tensor:
        """`taken` has one column for each cell."""
        tensor, mine = self._tensor, self._rows[row]
        cells: list[bytes] = []
        for chosen, place in zip(taken.tolist(), places.tolist(), strict=True):
            other = self._sample[place]
            cells += [mine[at] if one else other[at] for at, one in enumerate(chosen)]
        return Tensor(tensor.name, tensor.data_type, (len(places), *tensor.shape[1:]), b"".join(cells))


def check_alike(inputs: Sequence[Tensor], sample: Sequence[Tensor]) -> None:
    """Raises EXPLANATION_UNAVAILABLE where the sample's rows could not stand in for those of the request."""
    given = {tensor.name: tensor for tensor in inputs}
    known = {tensor.name: tensor for tensor in sample}
    for name in [*given, *(name for name in known if name not in given)]:
        mine, other = given.get(name), known.get(name)
        if mine is None or other is None:
            where = "the instances" if mine is None else "the reference sample"
            raise _unlike(f"feature {name} is left out of {where}; give it in both or in neither")
        if mine.shape[1:] != other.shape[1:]:
            raise _unlike(
                f"feature {name} is {_type(mine)} in the instances and {_type(other)} in the reference sample; "
                "only rows of the sample's shape can be explained"
            )


def _unlike(why: str) -> MeshError:
    return MeshError(Reason.EXPLANATION_UNAVAILABLE, f"explain: {why}")


def _type(tensor: Tensor) -> str:
    return shape_text(TensorSpec(tensor.name, tensor.data_type, tensor.shape[1:]))


def _column(tensor: Tensor, sample: Tensor, *, by_element: bool) -> _Fixed | _Text:
    if tensor.data_type is DataType.BYTES:
        return _Text(tensor, sample, by_element=by_element)
    return _Fixed(tensor, sample)


def _cells(tensor: Tensor, *, by_element: bool) -> list[list[bytes]]:
    """Row by row. The tensor was checked, so its lengths add up."""
    each = prod(tensor.shape[1:])
    rows = tensor.shape[0]
    ends = text_ends(tensor.name, tensor.data, rows * each)
    step = 1 if by_element else max(1, each)
    data = bytes(tensor.data)
    cuts = [ends[row * each : (row + 1) * each + 1 : step] for row in range(rows)]
    return [[data[start:stop] for start, stop in pairwise(cut)] for cut in cuts]


def _element_names(name: str, shape: Sequence[int]) -> tuple[str, ...]:
    places = product(*(range(size) for size in shape))
    return tuple(name + "".join(f"[{at}]" for at in place) for place in places)
