"""XGBoost models saved as JSON or UBJSON: the learner's own description, with the trees stepped over."""

import re
from collections.abc import Mapping

from services.common.schema import DataType
from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.features import classes, row, usable_names, values
from services.registry.adapters.readers.json_skim import is_json_object, skim
from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.section import Entry
from services.registry.adapters.readers.ubjson import is_ubjson_object, skim_ubjson
from services.registry.domain.frameworks import Understood
from services.registry.domain.schemas import StatedSchema, StatedTensor

_WANTED = ("feature_names", "feature_types", "learner_model_param", "objective")
_COUNT_MAX = 10_000_000
_TYPES = {"float": DataType.FP32, "q": DataType.FP32, "int": DataType.INT64, "i": DataType.BOOL, "c": DataType.INT64}
_VERSION = re.compile(rb'"version"\s*:\s*\[\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\]')
_UBJSON_VERSION = re.compile(rb"L\0{7}\x07version\[#L\0{7}\x03((?:i.|U.|I..|l.{4}){3})", re.DOTALL)
_TAIL_BYTES = 4096


class XgboostReader:
    """A `FormatReader`."""

    form = "an XGBoost model"

    def why_not(self, contents: Contents) -> str:
        """JSON or UBJSON whose first member is the learner, or the version before it."""
        head = contents.head
        if not contents.packed and b"learner" in head[:256] and (is_json_object(head) or is_ubjson_object(head)):
            return ""
        return "no XGBoost model (no JSON or UBJSON with a learner)"

    def read(self, contents: Contents) -> Understood:
        """Features, classes and objective. Raises RefusedError."""
        entry = contents.sole
        if entry is None:
            raise RefusedError("it is not one file")
        binary = is_ubjson_object(contents.head)
        if binary:
            learner = skim_ubjson(entry.window(), _WANTED, inside="learner")
        else:
            learner = skim(entry.open(), _WANTED, inside=("learner",))
        parameters = learner.get("learner_model_param")
        if not isinstance(parameters, Mapping):
            raise BrokenError("its learner has no learner_model_param")
        outputs = _outputs(learner.get("objective"), parameters)
        stated = StatedSchema(_inputs(learner, _count(parameters, "num_feature")), outputs)
        form = f"an XGBoost model in {'UBJSON' if binary else 'JSON'}"
        return Understood("xgboost", form, stated, _version(entry, binary=binary))


def _count(parameters: Mapping[str, object], name: str, default: int = 0) -> int:
    text = str(parameters.get(name, default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= _COUNT_MAX):
        raise BrokenError(f"its {name} is {text[:60]!r}")
    return int(text)


def _inputs(learner: Mapping[str, object], count: int) -> tuple[StatedTensor, ...]:
    if not count:
        raise RefusedError("it has no features", "save it after training")
    names, types = learner.get("feature_names"), learner.get("feature_types")
    if not isinstance(names, list) or not names:
        return row(count, DataType.FP32)
    texts = [str(name) for name in names]
    if len(texts) != count:
        raise BrokenError(f"it names {len(texts)} features and has {count}")
    if not usable_names(texts, count):
        return row(count, DataType.FP32)
    kinds = [str(kind) for kind in types] if isinstance(types, list) and len(types) == count else ["float"] * count
    return tuple(
        StatedTensor(name, _TYPES.get(kind, DataType.FP32), ()) for name, kind in zip(texts, kinds, strict=True)
    )


def _outputs(objective: object, parameters: Mapping[str, object]) -> tuple[StatedTensor, ...]:
    name = str(objective.get("name", "")) if isinstance(objective, Mapping) else ""
    class_count = _count(parameters, "num_class")
    if name.startswith("multi:") and class_count > 1:
        return classes(class_count, DataType.FP32)
    if name == "binary:logistic":
        return classes(2, DataType.FP32)
    return values(max(class_count, _count(parameters, "num_target", 1)), DataType.FP32)


def _version(entry: Entry, *, binary: bool) -> str:
    """The version is the last member, so it is found from the end."""
    stream = entry.open()
    stream.seek(max(0, entry.size_bytes - _TAIL_BYTES))
    tail = stream.read(_TAIL_BYTES)
    if not binary:
        found = _VERSION.findall(tail)
        return ".".join(part.decode() for part in found[-1]) if found else ""
    packed = _UBJSON_VERSION.search(tail)
    if packed is None:
        return ""
    numbers, at, data = [], 0, packed.group(1)
    sizes = {b"i": 1, b"U": 1, b"I": 2, b"l": 4}
    while at < len(data):
        size = sizes[data[at : at + 1]]
        numbers.append(str(int.from_bytes(data[at + 1 : at + 1 + size], "big")))
        at += 1 + size
    return ".".join(numbers)
