"""Whether columns of typed formats can hold the features at all, which is known before a row is read.

Only what is certain is refused: that no value of the type, of whatever row, becomes the feature's. Texts may be JSON,
and what is empty may have a default.
"""

from collections.abc import Mapping

import pyarrow as pa

from services.batch.domain.layout import Layout
from services.batch.domain.rows import expectation, is_text
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec


def check_types(layout: Layout, types: Mapping[str, pa.DataType]) -> None:
    """Raises INPUT_UNREADABLE naming every column whose type has no place in its feature. Formats without types have
    none."""
    faults = [
        f"column {name!r} is {types[name]}; expected {expectation(wanted)}"
        for feature in layout.features
        if not feature.entity
        for wanted in [feature.element]
        for name in feature.columns
        if name in types and not may_fit(types[name], wanted)
    ]
    if faults:
        shown, more = "; ".join(faults[:5]), f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise MeshError(
            Reason.INPUT_UNREADABLE,
            f"no row of the input fits the version: {shown}{more}. Write the columns with other types, or say in "
            "input.feature_columns which are meant",
        )


def may_fit(kind: pa.DataType, spec: TensorSpec) -> bool:
    """False where no value of an Arrow type but null is one of the feature's."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind) or pa.types.is_null(kind):
        return True
    for size in spec.shape:
        if pa.types.is_null(kind):
            return True
        if pa.types.is_fixed_size_list(kind) and kind.list_size != size:
            return False
        if not _is_list(kind):
            return False
        kind = kind.value_type
    return pa.types.is_null(kind) or _element_may_fit(kind, spec.data_type)


def _element_may_fit(kind: pa.DataType, wanted: DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if wanted is DataType.BYTES:
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        return not (number or _never(kind))
    if wanted is DataType.BOOL:
        return bool(pa.types.is_boolean(kind))
    return not (pa.types.is_boolean(kind) or is_text(kind) or _never(kind))


def _never(kind: pa.DataType) -> bool:
    return bool(_is_list(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind) or pa.types.is_temporal(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
