"""LightGBM models saved as text: the header's lines, with the trees stepped over.

The ranges in `feature_infos` are those of the training data. They are not taken as limits: a tree answers beyond them
as well, and a caller must not be refused for the first value that is larger than all before.
"""

from collections.abc import Mapping, Sequence

from services.common.schema import DataType
from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.features import classes, row, usable_names, values
from services.registry.adapters.readers.json_skim import parsed
from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.section import Entry
from services.registry.domain.frameworks import Understood
from services.registry.domain.schemas import StatedSchema, StatedTensor

_HEADER_BYTES_MAX = 16 * 1024 * 1024
_TAIL_BYTES = 1024 * 1024
_CATEGORICAL = b"\npandas_categorical:"
_COUNT_MAX = 10_000_000
_CLASSES = ("multiclass", "multiclassova", "softmax", "ova")


class LightgbmReader:
    """A `FormatReader`."""

    form = "a LightGBM model"

    def why_not(self, contents: Contents) -> str:
        """The words that every model file of LightGBM begins with."""
        head = contents.head.replace(b"\r\n", b"\n")
        if not contents.packed and head.startswith(b"tree\n") and b"num_class=" in head:
            return ""
        return "no LightGBM model (no text that begins with 'tree')"

    def read(self, contents: Contents) -> Understood:
        """Features, classes and objective. Raises RefusedError."""
        entry = contents.sole
        if entry is None:
            raise RefusedError("it is not one file")
        header = _header(entry)
        count = _count(header, "max_feature_idx") + 1
        words = header.get("objective", "").split()
        objective, class_count = words[0] if words else "", _count(header, "num_class")
        if objective in _CLASSES and class_count > 1:
            outputs = classes(class_count, DataType.FP64)
        elif objective == "binary":
            outputs = classes(2, DataType.FP64)
        else:
            outputs = values(class_count, DataType.FP64)
        return Understood("lightgbm", "a LightGBM model in text", StatedSchema(_inputs(header, count, entry), outputs))


def _header(entry: Entry) -> Mapping[str, str]:
    data = entry.head(_HEADER_BYTES_MAX).replace(b"\r\n", b"\n")
    lines, blank, _ = data.partition(b"\n\n")
    if not blank and entry.size_bytes > _HEADER_BYTES_MAX:
        raise RefusedError(f"its header has more than {_HEADER_BYTES_MAX} bytes")
    pairs = (line.partition("=") for line in lines.decode(errors="replace").split("\n"))
    return {name: value for name, equals, value in pairs if equals}


def _count(header: Mapping[str, str], name: str) -> int:
    text = header.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= _COUNT_MAX):
        raise BrokenError(f"its {name} is {text[:60]!r}")
    return int(text)


def _inputs(header: Mapping[str, str], count: int, entry: Entry) -> tuple[StatedTensor, ...]:
    names, infos = header.get("feature_names", "").split(" "), header.get("feature_infos", "").split(" ")
    if len(names) != count:
        raise BrokenError(f"it names {len(names)} features and has {count}")
    given = any(name != f"Column_{number}" for number, name in enumerate(names))
    if not given or not usable_names(names, count):
        return row(count, DataType.FP64)
    infos = infos if len(infos) == count else ["none"] * count
    # "[low:high]" of a number, "a:b:c" of the codes of categories, "none" of what no tree asks for.
    coded = [":" in info and not info.startswith("[") for info in infos]
    categories = iter(_categories(entry, sum(coded)))
    return tuple(
        _category(name, next(categories)) if is_coded else StatedTensor(name, DataType.FP64, ())
        for name, is_coded in zip(names, coded, strict=True)
    )


def _category(name: str, words: Sequence[str]) -> StatedTensor:
    """A category by its words where the training data had them, else by its code."""
    return StatedTensor(name, DataType.BYTES if words else DataType.INT64, (), tuple(words))


def _categories(entry: Entry, count: int) -> Sequence[Sequence[str]]:
    """The words of each category of a data frame that the model was trained with; empty where they are no texts."""
    stream = entry.open()
    stream.seek(max(0, entry.size_bytes - _TAIL_BYTES))
    _, found, text = stream.read(_TAIL_BYTES).rpartition(_CATEGORICAL)
    lists = parsed(text.split(b"\n", 1)[0]) if found else None
    if not isinstance(lists, list) or len(lists) != count:
        return [()] * count
    return [
        [str(word) for word in one] if isinstance(one, list) and all(isinstance(word, str) for word in one) else ()
        for one in lists
    ]
