"""How the tensors of a call become the columns that a model was trained on, for models of tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_SHOWN_MAX = 20


class Features:
    """Either one tensor with all features of a row, or one scalar tensor for each, by the model's names for them."""

    def __init__(
        self, inputs: Sequence[Mapping[str, Any]], *, names: Sequence[str] | None, count: int | None = None
    ) -> None:
        """`inputs` as serving.json has them; `names` and `count` of the model's features, None where it tells neither.

        Raises ValueError where it is not clear which input is which feature.
        """
        self.names = list(names) if names is not None else None
        self.count = count if count is not None else len(self.names) if self.names is not None else None
        self.types = {str(one["name"]): str(one["datatype"]) for one in inputs}
        self.row = self._row(inputs)
        """The name of the one tensor with all features; None where each has its own."""
        if self.row is None:
            self._check(inputs)

    def columns(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Each feature by its name in the model's order, texts as str. What a caller left out is NaN, or None in texts.

        Only for models that name their features.
        """
        if self.row is not None:
            matrix = self.matrix(inputs)
            return {name: matrix[:, place] for place, name in enumerate(self._order())}
        rows = len(next(iter(inputs.values()))) if inputs else 0
        return {name: self._column(name, inputs, rows) for name in self._order()}

    def matrix(self, inputs: Mapping[str, Array]) -> Array:
        """All features, shape [rows, features]. Raises ValueError where a row has another number of them."""
        if self.row is None:
            return np.column_stack(list(self.columns(inputs).values()))
        given = inputs.get(self.row)
        if given is None:
            raise ValueError(f"input {self.row!r} is missing")
        matrix = given.reshape(len(given), -1 if len(given) else self.count or 1)
        if self.count is not None and matrix.shape[1] != self.count:
            raise ValueError(f"input {self.row!r} has {matrix.shape[1]} features a row; the model has {self.count}")
        return texts(matrix, self.row) if self.types[self.row] == "BYTES" else matrix

    def _row(self, inputs: Sequence[Mapping[str, Any]]) -> str | None:
        if len(inputs) != 1:
            return None
        name, shape = str(inputs[0]["name"]), list(inputs[0]["shape"])
        size = int(np.prod(shape)) if shape else 1
        if self.count is not None and -1 not in shape and size != self.count:
            raise ValueError(f"input {name!r} has {size} features a row; the model has {self._said()}")
        return name

    def _check(self, inputs: Sequence[Mapping[str, Any]]) -> None:
        wide = [str(one["name"]) for one in inputs if any(size != 1 for size in one["shape"])]
        if wide:
            raise ValueError(f"input {wide[0]!r} is no scalar; declare one scalar for each feature, or one row of all")
        if self.names is None:
            raise ValueError(
                f"the model does not name its features, so which input is which is unknown; "
                f"declare one input with a row of {self._said()} features, or train it with named columns"
            )
        missing = [name for name in self.names if name not in self.types]
        unknown = [name for name in self.types if name not in self.names]
        if missing or unknown:
            lacks = f"; missing: {_listed(missing)}" if missing else ""
            extra = f"; unknown: {_listed(unknown)}" if unknown else ""
            raise ValueError(f"the inputs must be the model's features {_listed(self.names)}{lacks}{extra}")

    def _column(self, name: str, inputs: Mapping[str, Array], rows: int) -> Array:
        text = self.types[name] == "BYTES"
        given = inputs.get(name)
        if given is None:
            return np.full(rows, None, dtype=object) if text else np.full(rows, np.nan)
        flat = given.reshape(rows)
        return texts(flat, name) if text else flat

    def _order(self) -> Sequence[str]:
        assert self.names is not None
        return self.names

    def _said(self) -> str:
        """The features of the model, for sentences."""
        if self.names is not None:
            return f"{len(self.names)}: {_listed(self.names)}"
        return "all" if self.count is None else str(self.count)


def texts(value: Array, name: str) -> Array:
    """Triton's BYTES are Python bytes; gives them as str. Raises ValueError where they are no UTF-8."""
    try:
        return np.vectorize(lambda one: one.decode() if isinstance(one, bytes) else str(one), otypes=[object])(value)
    except UnicodeDecodeError:
        raise ValueError(f"input {name!r} holds bytes that are no text in UTF-8") from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN_MAX]) + (", …" if len(names) > _SHOWN_MAX else "")
