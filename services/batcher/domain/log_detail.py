"""What the log may have of a request beyond the bare facts: what was predicted, the hash of its input, its output.

The hash of a request of one row is the key by which its answer would be cached, so that the log leads to the cache.
"""

from dataclasses import dataclass
from hashlib import sha256
from math import prod

import numpy as np
import orjson

from services.batcher.domain.cache_key import common_digest, common_key, row_keys
from services.batcher.domain.recording import Recording
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.row_labels import RowLabels
from services.batcher.domain.rows import RowsError
from services.batcher.domain.shadow_compare import REDACTED
from services.batcher.domain.tensors import as_array, split_bytes
from services.common.schema import DataType

OUTPUT_BYTES_MAX = 8000
"""Of an output as JSON."""
_ELEMENTS_MAX = 1000
"""Of one tensor."""
_TEXT_MAX = 1000
_SPARE = 60
"""Bytes kept for saying what is not shown."""
_LEFT_OUT = "..."
"""The key under which an output says what of it is not shown."""
_COMMONS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Detail:
    """What is noted of one request beside its times and codes."""

    labels: RowLabels | None = None
    input_hash: bytes = b""
    """32 bytes of SHA-256; empty where it was not asked for."""
    output: str = ""
    """JSON; empty where it was not asked for."""


class InputHashes:
    """Hashes of inputs. What requests have in common is digested once."""

    def __init__(self) -> None:
        self._commons: dict[tuple[object, ...], bytes] = {}

    def of(self, request: InferRequest) -> bytes:
        """SHA-256 of the input and the parameters; empty where a tensor is not of the size that it says."""
        key = common_key(request)
        common = self._commons.get(key)
        if common is None:
            if len(self._commons) >= _COMMONS_MAX:
                self._commons.clear()
            common = self._commons[key] = common_digest(request)
        if request.rows == 1 and request.inputs:
            try:
                return row_keys(common, request).keys[0]
            except RowsError:
                return b""
        digest = sha256(common + request.rows.to_bytes(8, "little"))
        for tensor in request.inputs:
            digest.update(len(tensor.data).to_bytes(8, "little"))
            digest.update(tensor.data)
        return digest.digest()


def detail_of(
    recording: Recording,
    hashes: InputHashes,
    *,
    request: InferRequest | None,
    result: InferResult | None,
    labels: RowLabels | None = None,
) -> Detail:
    """What the policy asks for of a request that is logged. `result` is None for one that failed."""
    return Detail(
        labels,
        hashes.of(request) if recording.input_hash and request is not None else b"",
        output_json(result, recording.redacted) if recording.output and result is not None else "",
    )


def output_json(result: InferResult, redacted: frozenset[str] = frozenset()) -> str:
    """A JSON object: the rows of each output by its name, "[redacted]" in place of those that are. It has at most
    `OUTPUT_BYTES_MAX` bytes: of long outputs the first rows and elements are there, of what still does not fit nothing,
    and the key "..." says so."""
    pieces: list[bytes] = []
    length, cut, left_out = 0, 0, 0
    for tensor in result.outputs:
        if tensor.name in redacted:
            value = orjson.dumps(REDACTED)
        else:
            value, whole = _rows_json(tensor)
            cut += not whole
        piece = orjson.dumps(tensor.name) + b":" + value
        if length + len(piece) + 1 > OUTPUT_BYTES_MAX - _SPARE:
            left_out += 1
            continue
        length += len(piece) + 1
        pieces.append(piece)
    if cut or left_out:
        pieces.append(orjson.dumps(_LEFT_OUT) + b":" + orjson.dumps(f"{left_out} outputs left out, {cut} cut"))
    return (b"{" + b",".join(pieces) + b"}").decode()


def _rows_json(tensor: Tensor) -> tuple[bytes, bool]:
    """A list with an entry for each row, and whether all of the tensor is in it."""
    rows, elements = tensor.shape[0] if tensor.shape else 1, prod(tensor.shape[1:])
    if elements > _ELEMENTS_MAX:
        shape, whole = [min(rows, 1), _ELEMENTS_MAX], not rows
    else:
        shown = min(rows, _ELEMENTS_MAX // elements) if elements else min(rows, _ELEMENTS_MAX)
        shape, whole = [shown, *tensor.shape[1:]], shown == rows
    count = prod(shape)
    if tensor.data_type is DataType.BYTES:
        texts = [one.decode(errors="replace") for one in split_bytes(tensor.data)[:count]]
        whole = whole and all(len(text) <= _TEXT_MAX for text in texts)
        values = np.array([text[:_TEXT_MAX] for text in texts], dtype=object).reshape(shape).tolist()
        return orjson.dumps(values), whole
    numbers = as_array(tensor.data_type, tensor.data[: count * tensor.data_type.size_bytes]).reshape(shape)
    if numbers.dtype == np.float16:
        numbers = numbers.astype(np.float32)
    return orjson.dumps(np.ascontiguousarray(numbers), option=orjson.OPT_SERIALIZE_NUMPY), whole
