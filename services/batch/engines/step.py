"""What happens to one block of rows before and after it is predicted."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from services.batch.domain.chunks import FailedRow
from services.batch.domain.layout import Layout
from services.batch.domain.results import misfit_keys
from services.batch.domain.rows import Encoded, RowBlock, encode
from services.batch.engines.predictor import Outcome
from services.common.errors import Reason

_KEY_SHOWN_MAX = 256
_MESSAGE_MAX = 1024


@dataclass(frozen=True, slots=True)
class Predicted:
    """A block of rows, what was sent of it, and what came back."""

    block: RowBlock
    encoded: Encoded
    outcome: Outcome


def encoded(block: RowBlock, layout: Layout, *, key_is_integer: bool) -> Encoded:
    """The block's tensors. Rows whose key cannot be written are bad rows."""
    made = encode(block, layout)
    for place in misfit_keys(block, layout, key_is_integer=key_is_integer):
        message = f"column {layout.key!r} is no whole number, as the first row's is, so the row has no key"
        made.bad.setdefault(place, (Reason.SCHEMA_VIOLATION, message))
    return made


def failures(predicted: Predicted, keys: pa.Array) -> Sequence[FailedRow]:
    """The rows that could not be predicted, in order."""
    reasons = dict(predicted.encoded.bad)
    reasons |= {place: (error.reason, error.message) for place, error in predicted.outcome.failed.items()}
    block = predicted.block
    return [
        FailedRow(block.first_row + place, _shown_key(keys[place].as_py()), reason, _placed(message, block, place))
        for place, (reason, message) in sorted(reasons.items())
    ]


def _placed(message: str, block: RowBlock, place: int) -> str:
    """The message, with the row's place where the input has several files."""
    message = message[:_MESSAGE_MAX]
    return f"{message} (row {block.origin_row + place} of {block.origin})" if block.origin else message


def _shown_key(key: object) -> str:
    return "" if key is None else str(key)[:_KEY_SHOWN_MAX]
