"""What is served, compiled: for each version its plans and its counts, found by name in two look-ups."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from services.batcher.codec.json_wire import JsonWriter
from services.batcher.codec.oip_wire import ResponseWire
from services.batcher.codec.typed import TypedReader
from services.batcher.codec.typed_wire import TypedWriter
from services.batcher.domain.features import JoinPlan
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.outputs import OutputPlan
from services.batcher.domain.recording import NO_RECORDINGS, Recording, Recordings
from services.batcher.domain.serving import ServedModel, ServedVersion, ServingTable, ShadowTarget
from services.batcher.domain.tensor_check import TensorPlan
from services.batcher.faces.caller import Caller
from services.batcher.telemetry.version_stats import VersionStats
from services.common.errors import MeshError, Reason, shown
from services.common.names import check_version

_NAMED_MAX = 20
_LISTS_MAX = 1024
"""Kinds of callers for whom it is remembered what they may see."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What is done with a version's answers once callers have them."""

    shadows: tuple[ShadowTarget, ...] = ()
    """Who gets copies; never the version itself."""
    log_labels: bool = False
    """Whether the prediction log says what was predicted for each row."""
    recording: Recording | None = None
    """What the version's logging policy asks for, where it asks for anything."""


class VersionPlan:
    """All that a request for one version needs, made once."""

    __slots__ = (
        "after",
        "instances",
        "join",
        "json_writer",
        "outputs",
        "served",
        "stats",
        "tensors",
        "typed_reader",
        "typed_writer",
        "wire",
    )

    def __init__(self, served: ServedVersion, stats: VersionStats) -> None:
        self.served = served
        self.stats = stats
        self.instances = InstancePlan(served)
        self.tensors = TensorPlan(served, self.instances.features)
        self.outputs = OutputPlan(served)
        self.typed_reader = TypedReader(self.instances)
        self.typed_writer = TypedWriter(self.outputs)
        self.json_writer = JsonWriter(self.outputs)
        self.join = JoinPlan(served) if served.feature_views else None
        """How features are added; None: callers send all of them."""
        self.wire = ResponseWire(served)
        self.after: Aftermath | None = None
        """None for nearly all, and asking that is all that they pay. It is the model's, so it may change while the
        version does not."""

    @property
    def redacted(self) -> frozenset[str]:
        """The outputs whose values the version's logging policy keeps back."""
        recording = self.after.recording if self.after is not None else None
        return recording.redacted if recording is not None else frozenset()


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model."""

    served: ServedModel
    versions: Mapping[str, VersionPlan]
    """By every name that callers may use: with and without the leading v, and by the registry's aliases."""
    default: VersionPlan | None
    stats: VersionStats
    """Of requests for versions that are not served."""


class Catalog:
    """The newest serving table. Requests in flight keep the plan that they resolved."""

    def __init__(self, *, on_apply: Callable[[ServingTable], None] = lambda _: None) -> None:
        self._on_apply = on_apply
        self._table = ServingTable()
        self.ready = False
        """Whether a table was ever applied."""
        self._models: dict[str, ModelPlan] = {}
        self._prepared: dict[str, ModelPlan] = {}
        self._recordings = NO_RECORDINGS
        self._stats: dict[tuple[str, str], tuple[VersionStats, OutputPlan | None]] = {}
        self._names: dict[tuple[object, ...], list[str]] = {}
        self.unknown = VersionStats("", "")
        """Requests for models that are not served: callers choose those names, so no label may hold them."""

    @property
    def table(self) -> ServingTable:
        """What it was made of."""
        return self._table

    def prepare(self, served: ServedModel) -> None:
        """Compiles a model of the table that is applied next, so that thousands need not be compiled in one go. Raises
        MeshError where a version's schema cannot be compiled."""
        self._prepared[served.model_name] = self._model(served)

    def apply(self, table: ServingTable) -> None:
        """Takes over a table. Versions that did not change keep their plans; counts are never lost. Raises MeshError
        where a version's schema cannot be compiled; nothing is changed then."""
        before, prepared, self._prepared = self._models, self._prepared, {}
        models: dict[str, ModelPlan] = {}
        changed: list[ModelPlan] = []
        for name, served in table.models.items():
            model = before.get(name)
            if model is None or model.served is not served:
                ahead = prepared.get(name)
                model = ahead if ahead is not None and ahead.served is served else self._model(served)
                changed.append(model)
            models[name] = model
        for model in changed:
            self._stats[model.served.model_name, ""] = (model.stats, None)
            for plan in model.versions.values():
                self._stats[plan.served.model_name, plan.served.version] = (plan.stats, plan.outputs)
        self._on_apply(table)
        self._table, self._models, self.ready = table, models, True
        self._names.clear()
        for model in changed:
            self._follow(model)
        for name in {model.served.model_name for model in changed} | (before.keys() - models.keys()):
            if name in before:
                self._forget_unused(before[name], models.get(name))

    def record(self, recordings: Recordings) -> None:
        """From the next answer on, what these logging policies ask for is logged."""
        known, self._recordings = self._recordings.by_version, recordings
        for name in {key[0] for key in known.keys() | recordings.by_version.keys()}:
            if name in self._models:
                self._follow(self._models[name])

    def _follow(self, model: ModelPlan) -> None:
        """From now on the model's versions do what it and the logging policies say with their answers."""
        served = model.served
        for version in served.versions:
            targets = tuple(one for one in served.shadows if one.version != version and one.version in served.versions)
            recording = self._recordings.of(served.model_name, version)
            after = Aftermath(targets, served.log_labels, recording)
            wanted = targets or served.log_labels or recording is not None
            model.versions[version].after = after if wanted else None

    def _forget_unused(self, before: ModelPlan, now: ModelPlan | None) -> None:
        """Lets go of the counts of versions that went and never got a request: over months they would be most."""
        gone = before.served.versions.keys() - (now.served.versions.keys() if now is not None else ())
        unused = [version for version in gone if not before.versions[version].stats.requests]
        if now is None and not before.stats.requests:
            unused.append("")
        for version in unused:
            self._stats.pop((before.served.model_name, version), None)

    def model(self, name: str, caller: Caller) -> ModelPlan:
        """A model. Raises MODEL_NOT_SERVED, and the very same for a model that the caller may not see."""
        model = self._models.get(name)
        if model is None or not (model.served.team == caller.home or caller.sees(model.served)):
            raise self._not_served(name, caller)
        return model

    def find(self, name: str) -> ModelPlan | None:
        """A model, where it is served, whoever may see it."""
        return self._models.get(name)

    def version(self, model: ModelPlan, version: str) -> VersionPlan:
        """A version of it, by its name or an alias; empty: its default. Raises VERSION_NOT_SERVED."""
        plan = model.versions.get(version) if version else model.default
        if plan is None:
            raise _version_not_served(model, version)
        return plan

    def names(self, caller: Caller) -> list[str]:
        """The models that the caller may see, sorted. Looked through once for each table and kind of caller: among
        thousands it takes milliseconds."""
        identity = caller.identity
        kind = (True,) if identity.unbounded else (identity.role, identity.team, identity.models)
        names = self._names.get(kind)
        if names is None:
            if len(self._names) >= _LISTS_MAX:
                self._names.clear()
            visible = [name for name, model in self._models.items() if caller.sees(model.served)]
            names = self._names[kind] = sorted(visible)
        return names

    def stats(self) -> Iterable[tuple[VersionStats, OutputPlan | None]]:
        """The counts of all versions that are served, or were and got requests."""
        return [(self.unknown, None), *self._stats.values()]

    def stats_of(self, model_name: str, version: str) -> VersionStats | None:
        """The counts of one version; None where it never was served."""
        known = self._stats.get((model_name, version))
        return known[0] if known is not None else None

    def _model(self, served: ServedModel) -> ModelPlan:
        old = self._models.get(served.model_name)
        plans: dict[str, VersionPlan] = {}
        for version, item in served.versions.items():
            before = old.versions.get(version) if old is not None else None
            plan = before if before is not None and before.served == item else self._plan(item)
            plans[version] = plan
            plans[version.removeprefix("v")] = plan
        for alias, version in served.aliases.items():
            # What is a version's own name is never an alias.
            if version in served.versions and alias and alias not in plans:
                plans[alias] = plans[version]
        stats = self._counts(served.model_name, "")
        return ModelPlan(served, plans, plans.get(served.default_version), stats)

    def _plan(self, served: ServedVersion) -> VersionPlan:
        return VersionPlan(served, self._counts(served.model_name, served.version))

    def _counts(self, model: str, version: str) -> VersionStats:
        return self.stats_of(model, version) or VersionStats(model, version)

    def _not_served(self, name: str, caller: Caller) -> MeshError:
        served = _listed(self.names(caller))
        if not name:
            return MeshError(Reason.MODEL_NOT_SERVED, f"no model is named; served are: {served}")
        return MeshError(
            Reason.MODEL_NOT_SERVED,
            f"no model {shown(name, length_max=80)} is served; served are: {served}. "
            "Deploy it, or wait until its deployment is active",
            metadata={"model_name": name[:80]},
        )


def _version_not_served(model: ModelPlan, version: str) -> MeshError:
    name = model.served.model_name
    served = _listed(list(model.served.versions))
    aliases = [f"{alias} ({of})" for alias, of in sorted(model.served.aliases.items()) if of in model.versions]
    if aliases:
        served += f"; aliases are: {_listed(aliases)}"
    if not version:
        wanted = model.served.default_version
        return MeshError(
            Reason.VERSION_NOT_SERVED,
            f"{name} has no default version that is served{f' ({wanted} is not)' if wanted else ''}; "
            f"served are: {served}",
            metadata={"model_name": name, "version": wanted},
        )
    try:
        asked = canonical = check_version(version, "version")
    except MeshError:  # then it would have been an alias
        asked, canonical = shown(version, length_max=80), version[:80]
    return MeshError(
        Reason.VERSION_NOT_SERVED,
        f"version {asked} of {name} is not served; served are: {served}",
        metadata={"model_name": name, "version": canonical},
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "") or "none"
