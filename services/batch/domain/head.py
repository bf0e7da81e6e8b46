"""Whether an input fits its version at all, as far as its first rows say, which are looked at before a job is made.

An input of which some rows fit is taken, for the others are named one by one. Where none does, another file, column or
delimiter was meant, and who asks is still there to hear of it.
"""

from collections.abc import Iterable
from dataclasses import replace

from services.batch.domain.layout import Layout
from services.batch.domain.rows import RowBlock, encode
from services.common.errors import FieldViolation, MeshError, Reason

HEAD_ROWS, HEAD_CHUNKS = 100, 4
"""What is looked at: rows in a chunk, and chunks, since the first files may be small."""
_ROWS_ENOUGH = 10
"""Of fewer rows nothing is concluded, unless there are no others."""
_FAULTS_MAX = 5


def check_head(blocks: Iterable[RowBlock], layout: Layout, *, uri: str, whole: bool) -> None:
    """Raises INPUT_UNREADABLE where no row of the blocks becomes the model's inputs, with the columns at fault. Nothing
    is read after a row that does. `whole`: whether the blocks are all of the input."""
    count, faults = 0, list[str]()
    for block in blocks:
        if len(encode(block, layout).bad) < block.row_count:
            return
        count += block.row_count
        faults = faults or _faults(block, layout)
    if count < _ROWS_ENOUGH and not (whole and count):
        return
    which = f"none of its {count} rows" if whole else f"none of its first {count} rows"
    words = f"is {uri!r}, and {which} fits the version: {'; '.join(faults)}"
    raise MeshError(
        Reason.INPUT_UNREADABLE,
        f"input_uri {words}. Mend the input, say in input.feature_columns which columns are meant, or set "
        "max_failed_fraction to 1, which lets every row fail",
        violations=(FieldViolation("input_uri", words),),
    )


def _faults(block: RowBlock, layout: Layout) -> list[str]:
    """What is wrong, by an example of each column that no row has right; where there is none such, that of the first
    row. Of a block whose rows are all bad."""
    alone = [encode(block, replace(layout, features=(feature,))).bad for feature in layout.features]
    never = [bad for bad in alone if len(bad) == block.row_count] or [encode(block, layout).bad]
    found = dict.fromkeys(_example(block, min(bad), bad[min(bad)][1]) for bad in never)
    shown, more = list(found)[:_FAULTS_MAX], len(found) - _FAULTS_MAX
    return [*shown, f"and {more} more"] if more > 0 else shown


def _example(block: RowBlock, place: int, message: str) -> str:
    where = f"row {block.origin_row + place} of {block.origin}" if block.origin else f"row {block.first_row + place}"
    return f"{where}: {message}"
