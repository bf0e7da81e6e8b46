"""Which columns of an input hold the key and the features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.batch.domain.job import Input, NamedColumn, Version
from services.common.errors import MeshError, Reason, invalid, shown
from services.common.schema import DataType, ModelSchema, TensorSpec

ROW_NUMBER = "row_number"
"""The output's key column where the input has none."""
_KEYS = ("key", "id")
_SPREAD_MAX = 65_536


@dataclass(frozen=True, slots=True)
class FeatureColumns:
    """A feature and its column; several columns where it is spread, one number in each; none where it is left out."""

    spec: TensorSpec
    columns: tuple[str, ...]
    entity: bool = False
    """It is no feature of the model but says whose features the batcher takes from the online feature store."""

    @property
    def spread(self) -> bool:
        """Whether each column holds one number of the feature."""
        return len(self.columns) > 1

    @property
    def element(self) -> TensorSpec:
        """What one column holds: the feature, or one number of it."""
        spec = self.spec
        if not self.spread:
            return spec
        return TensorSpec(
            spec.name, spec.data_type, minimum=spec.minimum, maximum=spec.maximum, categories=spec.categories
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of an input. `key` is empty where rows are known by their number."""

    key: str
    features: tuple[FeatureColumns, ...]
    copied: tuple[str, ...] = ()
    """Those that the output has beside the key."""

    @property
    def key_name(self) -> str:
        """The name of the output's key column."""
        return self.key or ROW_NUMBER

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that must be read, each once."""
        names = (self.key,) if self.key else ()
        used = (name for feature in self.features for name in feature.columns)
        return tuple(dict.fromkeys((*names, *used, *self.copied)))


def check_schema(schema: ModelSchema) -> None:
    """Raises NOT_IMPLEMENTED for a schema whose rows cannot be joined into requests here, SCHEMA_REQUIRED for none."""
    if not schema.inputs:
        raise MeshError(Reason.SCHEMA_REQUIRED, "the version states no features, so columns cannot be matched to them")
    for spec in schema.inputs:
        if spec.data_type is DataType.BF16 or any(size < 0 for size in spec.shape):
            raise MeshError(
                Reason.NOT_IMPLEMENTED,
                f"feature {spec.name!r} is {spec.data_type} of shape {list(spec.shape)}: batch jobs do not take "
                "bfloat16 or dimensions of any size yet; call the model's predict endpoint for such rows",
            )


def lay_out(columns: Sequence[str], version: Version, wish: Input, copied: Sequence[str] = ()) -> Layout:
    """Finds the features' columns, the key's, and those that are copied. A feature of a view may be missing where the
    view's entity is a column: then the batcher adds it. Raises INPUT_UNREADABLE naming every column that is missing,
    INVALID_FIELD where one cannot be copied."""
    schema = version.schema
    entities = {feature: view.entity for view in version.feature_views for feature in view.features}
    needed: dict[str, None] = {}
    known = set(columns)
    _check_renames(schema, wish.feature_columns, known)
    features, missing = [], []
    for spec in schema.inputs:
        base = wish.feature_columns.get(spec.name, spec.name)
        found = _find(spec, base, known)
        if found is None and entities.get(spec.name) in known:
            needed[entities[spec.name]] = None
            found = ()
        if found is None:
            missing.append(base)
            continue
        features.append(FeatureColumns(spec, found))
    if missing:
        raise MeshError(
            Reason.INPUT_UNREADABLE,
            f"the input has no column for {', '.join(map(repr, missing))}; it has "
            f"{shown(list(columns), length_max=400)}. {_separated_otherwise(columns, wish)}Add the columns, or say in "
            "input.feature_columns how they are called",
            metadata={"missing_columns": ",".join(missing)},
        )
    inputs = {spec.name for spec in schema.inputs}
    features += [
        FeatureColumns(TensorSpec(name, DataType.BYTES), (name,), entity=True) for name in needed if name not in inputs
    ]
    used = {name for feature in features for name in feature.columns}
    if not used:
        raise MeshError(
            Reason.INPUT_UNREADABLE,
            f"the input has no column of any feature; it has {shown(list(columns), length_max=400)}, and the version "
            "takes " + ", ".join(repr(spec.name) for spec in schema.inputs),
        )
    # Whose features they are may well be what identifies a row, too.
    used = {name for feature in features if not feature.entity for name in feature.columns}
    layout = Layout(_key(columns, used, wish.key_column), tuple(features), tuple(copied))
    _check_copied(layout, columns)
    return layout


def named_columns(version: Version, wish: Input, copied: Sequence[str]) -> tuple[NamedColumn, ...]:
    """What `lay_out` looks for by name, and what `feature_sources` need."""
    joined = [wish.event_time_column, *(join.entity for join in wish.joins)]
    needed = [wish.key_column, *joined, *(view.entity for view in version.feature_views)]
    named = {name: NamedColumn(name, optional=True) for name in copied}
    named |= {name: NamedColumn(name) for name in needed if name}
    for spec in version.schema.inputs:
        base = wish.feature_columns.get(spec.name, spec.name)
        named[base] = NamedColumn(base, _spread(spec), spec.optional)
    return tuple(named.values())


def _spread(spec: TensorSpec) -> int:
    """Over how many columns a feature may be spread; 0: it is in one."""
    return spec.shape[0] if len(spec.shape) == 1 and 1 < spec.shape[0] <= _SPREAD_MAX else 0


def _separated_otherwise(columns: Sequence[str], wish: Input) -> str:
    """A hint, where one name looks like several."""
    for mark, word in ((";", "';'"), ("\t", "tabs"), ("|", "'|'"), (",", "commas")):
        if len(columns) == 1 and mark in columns[0] and mark != wish.delimiter:
            return f"It looks as if {word} separated them: set input.delimiter. "
    return ""


def _check_copied(layout: Layout, columns: Sequence[str]) -> None:
    unknown = [name for name in layout.copied if name not in columns]
    if unknown:
        raise invalid(
            "output.columns", ", ".join(unknown), f"columns of the input: {shown(list(columns), length_max=400)}"
        )
    if layout.key_name in layout.copied:
        raise invalid("output.columns", layout.key_name, "columns other than the key, which the output has anyway")


def _find(spec: TensorSpec, base: str, known: set[str]) -> tuple[str, ...] | None:
    if base in known:
        return (base,)
    width = _spread(spec)
    if width:
        for mark in ("_", "."):
            names = tuple(f"{base}{mark}{place}" for place in range(width))
            if known.issuperset(names):
                return names
    return () if spec.optional else None


def _key(columns: Sequence[str], used: set[str], asked: str) -> str:
    if asked:
        if asked not in columns:
            raise invalid("input.key_column", asked, f"a column of the input: {shown(list(columns), length_max=400)}")
        return asked
    others = [name for name in columns if name not in used]
    for name in _KEYS:
        if name in others:
            return name
    return others[0] if others else ""


def _check_renames(schema: ModelSchema, renames: Mapping[str, str], known: set[str]) -> None:
    names = [spec.name for spec in schema.inputs]
    for feature, column in renames.items():
        if feature not in names:
            raise invalid("input.feature_columns", feature, f"a feature of the version: {', '.join(names)}")
        spread = {f"{column}_0", f"{column}.0"} & known
        if column not in known and not spread:
            raise invalid(f"input.feature_columns[{feature!r}]", column, "a column of the input")
