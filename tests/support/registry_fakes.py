"""The registry's neighbours, in memory: each passes the contract tests that its real twin passes."""

import hashlib
import operator
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO
from itertools import count
from typing import BinaryIO
from uuid import uuid4

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.names import SemanticVersion
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.registry.adapters.postgres_aliases import no_version
from services.registry.domain.access import is_seen
from services.registry.domain.alias import Alias, AliasMove, Move
from services.registry.domain.artifact_uri import ArtifactPlace, filename_of
from services.registry.domain.artifacts import MESH, Sender
from services.registry.domain.conflicts import other_framework, other_team, same_or_refused
from services.registry.domain.frameworks import Understood
from services.registry.domain.schemas import StatedSchema, StatedTensor
from services.registry.domain.search import Found, Search
from services.registry.domain.version import Artifact, Content, Model, NewVersion, Stored, Version, precedence_key
from tests.support.registry_history_fakes import made_from

X = StatedTensor("X", DataType.FP32, (4,))
LABEL = StatedTensor("label", DataType.INT64, ())
PROBABILITIES = StatedTensor("probabilities", DataType.FP32, (3,))
STATED = StatedSchema((X,), (LABEL, PROBABILITIES))


def content(text: str = "weights", **change: object) -> Content:
    """What a version of three flowers would be made of."""
    schema = ModelSchema(
        (TensorSpec("X", DataType.FP32, (4,)),),
        (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (3,))),
    )
    made = Content(
        framework="onnx",
        artifact=Artifact(hashlib.sha256(text.encode()).hexdigest(), "file", "iris.onnx", len(text)),
        schema=schema,
        schema_source="artifact",
        mapping=PredictionMapping("label", "probabilities", ("a", "b", "c")),
    )
    return replace(made, **change)  # type: ignore[arg-type]


def new(model: str = "iris", version: str = "v1.0.0", text: str = "weights", **change: object) -> NewVersion:
    """A version of three flowers, about to be registered."""
    return replace(NewVersion(model, version, content(text), "/models/iris.onnx"), **change)  # type: ignore[arg-type]


@dataclass
class _Row:
    """A model as the catalogue keeps it."""

    model_id: str
    name: str
    framework: str
    description: str
    created_by: str
    team: str
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    model_card: str = ""
    revision: int = 1
    shared_with: tuple[str, ...] = ()


class MemoryCatalogue:
    """A `Catalogue`, `Finder` and `AliasBook`. `down` makes every call fail as if the database were away."""

    def __init__(self, clock: Clock, teams: Sequence[str] = ()) -> None:
        self._clock = clock
        self._teams = set(teams)
        self._models: dict[str, _Row] = {}
        self._versions: dict[str, Version] = {}
        self._aliases: dict[tuple[str, str], Alias] = {}
        self._moves: list[tuple[str, str, AliasMove]] = []
        self._samples: dict[str, bytes] = {}
        self._numbers = count(1)
        self.down = False

    async def register(self, new: NewVersion) -> Version:
        """Keeps a version, and its model where that is new."""
        self._answer()
        if new.team and new.team not in self._teams:
            raise MeshError(Reason.TEAM_NOT_FOUND, f"the caller's team {new.team!r} is not known")
        row = self._models.get(new.model_name) or self._row(new)
        if new.team and row.team != new.team:
            raise other_team(new)
        if row.framework != new.content.framework:
            raise other_framework(new, row.framework)
        every = self._versions.values()
        rival = next((one for one in every if new.request_id and one.request_id == new.request_id), None)
        rival = rival or self._named(new.model_name, new.version)
        if rival is not None:
            return self._shown(same_or_refused(new, rival))
        self._models[new.model_name] = row
        row.updated_at = now = self._clock.now()
        version = Version(
            version_id=str(uuid4()),
            model_name=new.model_name,
            version=new.version,
            content=new.content,
            artifact_uri=new.artifact_uri,
            stage=new.stage,
            model_card=new.model_card,
            request_id=new.request_id,
            created_by=new.created_by,
            team=row.team,
            created_at=now,
            updated_at=now,
        )
        self._versions[version.version_id] = version
        if new.reference is not None:
            self._samples.setdefault(new.content.reference_digest, new.reference)
        return version

    async def model(self, name: str, *, team: str = "") -> Model | None:
        """The model of that name."""
        self._answer()
        row = self._models.get(name)
        return self._model(row, team) if row is not None and self._seen(row, team) else None

    async def models(
        self, *, prefix: str, framework: str, tags: Sequence[str], of_team: str, after: str, limit: int, team: str = ""
    ) -> Sequence[Model]:
        """At most `limit` models from behind `after`."""
        self._answer()
        rows = [
            row
            for name, row in sorted(self._models.items())
            if name > after
            and name.startswith(prefix)
            and framework in ("", row.framework)
            and set(tags) <= set(row.tags)
            and of_team in ("", row.team)
            and self._seen(row, team)
        ]
        return [self._model(row, team) for row in rows[:limit]]

    async def version(self, model_name: str, version: str, *, team: str = "") -> Version | None:
        """A version by its name, "latest" or an alias."""
        every = await self.versions(model_name, stage="", below="", limit=1_000_000, team=team)
        if version == "latest":
            return every[0] if every else None
        alias = self._aliases.get((model_name, version))
        wanted = alias.version if alias is not None else version
        return next((one for one in every if one.version == wanted), None)

    async def versions(
        self, model_name: str, *, stage: str, below: str, limit: int, team: str = ""
    ) -> Sequence[Version]:
        """At most `limit` versions, highest first."""
        self._answer()
        row = self._models.get(model_name)
        if row is None or not self._seen(row, team):
            return []
        ordered = sorted(
            (one for one in self._versions.values() if one.model_name == model_name and stage in ("", one.stage)),
            key=lambda one: SemanticVersion.parse(one.version),
            reverse=True,
        )
        behind = [one for one in ordered if not below or precedence_key(one.version) < below]
        return [self._shown(one) for one in behind[:limit]]

    async def change_model(self, model: Model) -> Model | None:
        """Keeps description, tags and card if the revision is still the current one."""
        self._answer()
        row = self._models[model.name]
        if row.revision != model.revision:
            return None
        row.description, row.tags, row.model_card = model.description, model.tags, model.model_card
        row.revision, row.updated_at = row.revision + 1, self._clock.now()
        return self._model(row, "")

    async def change_version(self, version: Version, *, reason: str = "") -> Version | None:
        """Keeps stage and card if the revision is still the current one."""
        self._answer()
        current = self._versions[version.version_id]
        if current.revision != version.revision:
            return None
        changed = replace(
            current,
            stage=version.stage,
            model_card=version.model_card,
            revision=current.revision + 1,
            updated_at=self._clock.now(),
        )
        self._versions[version.version_id] = changed
        return self._shown(changed)

    async def uses(self, digest: str) -> int:
        """How many versions are made of that artifact."""
        self._answer()
        return sum(one.content.artifact.digest == digest for one in self._versions.values())

    async def used(self, digests: Sequence[str]) -> Set[str]:
        """Those of the artifacts that a version is made of."""
        return {digest for digest in digests if await self.uses(digest)}

    async def reference(self, digest: str) -> bytes | None:
        """The reference sample of that digest."""
        self._answer()
        return self._samples.get(digest)

    async def check(self) -> None:
        """Returns unless it is down."""
        self._answer()

    async def find_versions(self, search: Search, *, after: tuple[str, ...], limit: int, team: str) -> Sequence[Found]:
        """What `MemoryFinder` finds."""
        self._answer()
        matching = [
            (self._models[one.model_name], self._shown(one))
            for one in self._versions.values()
            if self._seen(self._models[one.model_name], team)
        ]
        found = [version for row, version in matching if _matches(search, row, version)]
        for node in search.lineage:
            made = made_from(node, [version for _, version in matching])
            found = [one for one in found if one.version_id in made]
        if search.latest_only:
            highest: dict[str, Version] = {}
            for one in sorted(found, key=lambda one: precedence_key(one.version)):
                highest[one.model_name] = one
            found = list(highest.values())
        # Stable sorts, the least important first.
        found.sort(key=lambda one: precedence_key(one.version), reverse=True)
        found.sort(key=lambda one: one.model_name)
        found.sort(key=lambda one: _key(search, one), reverse=search.order.descending)
        positions = [Found(one, (str(_key(search, one)), one.model_name, precedence_key(one.version))) for one in found]
        begin = next((number + 1 for number, one in enumerate(positions) if one.position == after), 0)
        return positions[begin : begin + limit]

    async def find_alias(self, model_name: str, alias: str, team: str) -> Alias | None:
        """What `MemoryAliasBook` finds."""
        self._answer()
        row = self._models.get(model_name)
        return self._aliases.get((model_name, alias)) if row is not None and self._seen(row, team) else None

    async def aliases(self, model_name: str, team: str) -> Sequence[Alias]:
        """All aliases of a model, in alphabetical order."""
        names = sorted(alias for model, alias in self._aliases if model == model_name)
        found = [await self.find_alias(model_name, name, team) for name in names]
        return [one for one in found if one is not None]

    async def move_alias(self, move: Move, revision: int | None) -> Alias | None:
        """What `MemoryAliasBook` does."""
        self._answer()
        if move.model_name not in self._models or (move.version and not self._named(move.model_name, move.version)):
            raise no_version(move)
        key = (move.model_name, move.alias)
        current = self._aliases.get(key)
        if revision is not None and revision != (current.revision if current is not None else 0):
            return None
        before = current.version if current is not None else ""
        if before == move.version:
            return current
        number, now = next(self._numbers), self._clock.now()
        self._moves.insert(0, (*key, AliasMove(number, before, move.version, move.reason, move.moved_by, now)))
        if not move.version:
            return self._aliases.pop(key)
        model_id = self._models[move.model_name].model_id
        pointed = Alias(model_id, move.model_name, move.alias, move.version, move.moved_by, now, number)
        self._aliases[key] = pointed
        return pointed

    async def moves_of(self, model_name: str, alias: str, team: str) -> Sequence[AliasMove]:
        """All moves, newest first."""
        self._answer()
        row = self._models.get(model_name)
        seen = row is not None and self._seen(row, team)
        return [one for *key, one in self._moves if key == [model_name, alias] and seen]

    def _answer(self) -> None:
        if self.down:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the database does not answer; try again", retry_after_s=2.0)

    def _row(self, new: NewVersion) -> _Row:
        now = self._clock.now()
        framework, tags = new.content.framework, new.content.tags
        return _Row(str(uuid4()), new.model_name, framework, new.description, new.created_by, new.team, tags, now, now)

    def _named(self, model: str, version: str) -> Version | None:
        return next((one for one in self._versions.values() if (one.model_name, one.version) == (model, version)), None)

    def _seen(self, row: _Row, team: str) -> bool:
        return is_seen(team, row.name, row.team, row.shared_with)

    def _shown(self, version: Version) -> Version:
        pointing = [
            alias
            for (model, alias), one in sorted(self._aliases.items())
            if (model, one.version) == (version.model_name, version.version)
        ]
        return replace(version, aliases=tuple(pointing), team=self._models[version.model_name].team)

    def share(self, model_name: str, team: str) -> None:
        """Lets a team see a model."""
        row = self._models[model_name]
        row.shared_with = tuple(sorted({*row.shared_with, team}))

    def _model(self, row: _Row, viewer: str) -> Model:
        versions = [one.version for one in self._versions.values() if one.model_name == row.name]
        aliases = {alias: one.version for (model, alias), one in self._aliases.items() if model == row.name}
        latest = str(max(map(SemanticVersion.parse, versions)))
        values = {name: value for name, value in vars(row).items() if name != "version"}
        team = viewer.split(" ", maxsplit=1)[0]
        if team not in ("", "*", row.team):
            values["shared_with"] = tuple(one for one in row.shared_with if one == team)
        return Model(**values, latest_version=latest, version_count=len(versions), aliases=aliases)


class MemoryFinder:
    """A `Finder`."""

    def __init__(self, catalogue: MemoryCatalogue) -> None:
        self._catalogue = catalogue

    async def find(self, search: Search, *, after: tuple[str, ...], limit: int, team: str = "") -> Sequence[Found]:
        """At most `limit` versions from behind `after`."""
        return await self._catalogue.find_versions(search, after=after, limit=limit, team=team)


class MemoryAliasBook:
    """An `AliasBook`."""

    def __init__(self, catalogue: MemoryCatalogue) -> None:
        self._catalogue = catalogue

    async def find(self, model_name: str, alias: str, *, team: str = "") -> Alias | None:
        """The alias of that name."""
        return await self._catalogue.find_alias(model_name, alias, team)

    async def page(self, model_name: str, *, after: str, limit: int, team: str = "") -> Sequence[Alias]:
        """At most `limit` aliases from behind `after`."""
        every = await self._catalogue.aliases(model_name, team)
        return [one for one in every if one.alias > after][:limit]

    async def move(self, move: Move, *, revision: int | None) -> Alias | None:
        """Makes, moves or takes away an alias."""
        return await self._catalogue.move_alias(move, revision)

    async def moves(
        self, model_name: str, alias: str, *, before: int, limit: int, team: str = ""
    ) -> Sequence[AliasMove]:
        """At most `limit` moves, newest first."""
        every = await self._catalogue.moves_of(model_name, alias, team)
        return [one for one in every if not before or one.move_id < before][:limit]


class MemoryArtifactStore:
    """An `ArtifactStore` over files that exist in name only."""

    def __init__(self, clock: Clock, files: Mapping[str, bytes]) -> None:
        self._clock = clock
        self.files = dict(files)
        self.kept: dict[str, tuple[bytes, datetime]] = {}
        self._used_at: dict[str, datetime] = {}
        self.owners: dict[str, set[str]] = {}

    async def keep(self, place: ArtifactPlace, *, digest: str = "", sender: Sender = MESH) -> Artifact:
        """Takes a copy."""
        known = self.kept.get(place.digest, (None,))[0] if await self.is_seen(place.digest, sender.viewer) else None
        data = self.files.get(place.path) if place.path else known
        if data is None:
            raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"the artifact {place.path or place.digest} cannot be read")
        seen = hashlib.sha256(data).hexdigest()
        if digest and digest != seen:
            raise MeshError(Reason.ARTIFACT_CORRUPT, f"the artifact has SHA-256 {seen} where {digest} was given")
        self.kept.setdefault(seen, (data, self._clock.now()))
        self._used_at[seen] = self._clock.now()
        return Artifact(seen, "file", filename_of(place), len(data))

    async def receive(
        self, pieces: AsyncIterator[bytes], *, filename: str, digest: str = "", sender: Sender = MESH
    ) -> Artifact:
        """Takes what is sent."""
        path = f"/sent/{filename}"
        self.files[path] = b"".join([piece async for piece in pieces])
        kept = await self.keep(ArtifactPlace(path=path), digest=digest, sender=sender)
        self.owners.setdefault(kept.digest, set()).add(sender.team)
        return replace(kept, filename=filename)

    async def read(self, digest: str, *, offset_bytes: int = 0) -> AsyncIterator[bytes]:
        """The bytes, in pieces of 1 MiB."""
        if digest not in self.kept:
            raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"no artifact {digest} is kept")
        data = self.kept[digest][0]
        for begin in range(offset_bytes, len(data), 1024 * 1024):
            yield data[begin : begin + 1024 * 1024]

    async def open(self, digest: str) -> BinaryIO:
        """The bytes as a file."""
        if digest not in self.kept:
            raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"no artifact {digest} is kept")
        return BytesIO(self.kept[digest][0])

    async def old(self, before: datetime) -> Sequence[Stored]:
        """Everything that was last sent or named before then."""
        return [await self._stored(digest) for digest in sorted(self.kept) if self._used_at[digest] < before]

    async def remove(self, digest: str, *, before: datetime) -> bool:
        """Takes a copy away if that is still so."""
        if digest not in self.kept or self._used_at[digest] >= before:
            return False
        del self.kept[digest]
        return True

    async def _stored(self, digest: str) -> Stored:
        found = await self.find(digest)
        assert found is not None
        return found

    async def find(self, digest: str) -> Stored | None:
        """What is kept under the digest."""
        kept = self.kept.get(digest)
        return Stored(digest, "file", len(kept[0]), kept[1], len(kept[0])) if kept is not None else None

    async def is_seen(self, digest: str, viewer: str) -> bool:
        """Whether the viewer's team sent it; versions it does not know."""
        return not viewer or viewer.split(" ", maxsplit=1)[0] in self.owners.get(digest, ())

    async def sweep(self, before: datetime) -> int:
        """Nothing is ever left."""
        return 0

    def path_of(self, digest: str) -> str:
        """It lies on no disk."""
        return ""

    def uri_of(self, digest: str) -> str:
        """A place that would be."""
        return f"memory:///{digest}"


class FakeReader:
    """An `ArtifactReader` for which every artifact but `broken` is a model of three flowers."""

    def __init__(self, broken: str = "") -> None:
        self._broken = broken

    async def read(self, artifact: Artifact) -> Understood:
        """The tensors of three flowers."""
        if artifact.digest == self._broken:
            raise MeshError(Reason.ARTIFACT_INVALID, f"the artifact {artifact.filename} is no ONNX model")
        return Understood("onnx", "an ONNX file", STATED)


_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


def _matches(search: Search, row: _Row, version: Version) -> bool:
    tags = {*row.tags, *version.content.tags}
    text = " ".join((row.name, row.description, *tags, row.model_card, version.model_card)).lower()
    metrics = version.content.metrics
    return (
        row.name.startswith(search.prefix)
        and search.framework in ("", row.framework)
        and search.stage in ("", version.stage)
        and search.of_team in ("", row.team)
        and set(search.tags) <= tags
        and (not search.alias or search.alias in version.aliases)
        and all(word.lower() in text for word in search.words)
        and all(
            one.metric in metrics and _COMPARE[one.operator](metrics[one.metric], one.number) for one in search.metrics
        )
    )


def _key(search: Search, version: Version) -> str | float | datetime:
    order = search.order
    if order.by == "metric":
        last = float("-inf" if order.descending else "inf")
        return version.content.metrics.get(order.metric, last)
    if order.by == "name":
        return version.model_name
    return version.created_at if order.by == "created_at" else version.updated_at
