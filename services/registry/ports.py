"""What the engines need of the world, as small protocols. Each has a fake that passes the same tests."""

from collections.abc import AsyncIterator, Sequence, Set
from datetime import datetime
from typing import BinaryIO, Protocol

from services.registry.domain.alias import Alias, AliasMove, Move
from services.registry.domain.artifact_uri import ArtifactPlace
from services.registry.domain.artifacts import MESH, Record, Sender
from services.registry.domain.frameworks import Understood
from services.registry.domain.search import Found, Search
from services.registry.domain.version import Artifact, Model, NewVersion, Stored, Version


class Catalogue(Protocol):
    """Where models and versions are kept. Every call may raise DEPENDENCY_UNAVAILABLE.

    `team` is whose eyes look: models of other teams are as if they were not there. Empty sees all.
    """

    async def register(self, new: NewVersion) -> Version:
        """Keeps a version, and its model where that is new, in one step. The same content again returns what is there.

        Raises VERSION_EXISTS where the version has other content, INVALID_FIELD where the model has another framework,
        REQUEST_ID_REUSED where the id belongs to another registration, TEAM_NOT_FOUND where the new version's team is
        none, PERMISSION_DENIED where the model is another team's.
        """
        ...

    async def model(self, name: str, *, team: str = "") -> Model | None:
        """The model of that name."""
        ...

    async def models(
        self, *, prefix: str, framework: str, tags: Sequence[str], of_team: str, after: str, limit: int, team: str = ""
    ) -> Sequence[Model]:
        """At most `limit` models in alphabetical order, from behind the name `after`. Empty filters match all."""
        ...

    async def version(self, model_name: str, version: str, *, team: str = "") -> Version | None:
        """The version of that canonical name; "latest" for the highest; else the one that this alias points to."""
        ...

    async def versions(
        self, model_name: str, *, stage: str, below: str, limit: int, team: str = ""
    ) -> Sequence[Version]:
        """At most `limit` versions, highest first, from behind the precedence key `below` (empty: from the highest)."""
        ...

    async def change_model(self, model: Model) -> Model | None:
        """Keeps `model`'s description, tags and card if its revision is still the current one, which then rises; else
        None."""
        ...

    async def change_version(self, version: Version, *, reason: str = "") -> Version | None:
        """Keeps `version`'s stage and card if its revision is still the current one, which then rises; else None.
        `reason` is noted."""
        ...

    async def uses(self, digest: str) -> int:
        """How many versions are made of that artifact."""
        ...

    async def used(self, digests: Sequence[str]) -> Set[str]:
        """Those of the artifacts that a version is made of."""
        ...

    async def reference(self, digest: str) -> bytes | None:
        """The reference sample of that digest, as it was registered."""
        ...

    async def check(self) -> None:
        """Returns where the catalogue answers."""
        ...


class Finder(Protocol):
    """Finds versions. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def find(self, search: Search, *, after: tuple[str, ...], limit: int, team: str = "") -> Sequence[Found]:
        """At most `limit` versions in the order asked for, from behind the position `after` (empty: from the first).
        Within equals the order is that of model names, then highest version first; without the metric comes last."""
        ...


class AliasBook(Protocol):
    """Where aliases point, and where they have pointed. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def find(self, model_name: str, alias: str, *, team: str = "") -> Alias | None:
        """The alias of that name."""
        ...

    async def page(self, model_name: str, *, after: str, limit: int, team: str = "") -> Sequence[Alias]:
        """At most `limit` aliases of a model in alphabetical order, from behind `after`."""
        ...

    async def move(self, move: Move, *, revision: int | None) -> Alias | None:
        """Makes, moves or takes away an alias, and notes the move; one that points there already is left alone.

        With `revision` only if that is still the alias's (0: there is none); else None. Returns the alias as it points
        now, or as it pointed last where it was taken away; None too where there was none to take away.

        Raises VERSION_NOT_FOUND where the model has no such version.
        """
        ...

    async def moves(
        self, model_name: str, alias: str, *, before: int, limit: int, team: str = ""
    ) -> Sequence[AliasMove]:
        """At most `limit` moves, newest first, older than the one of the id `before` (0: from the newest)."""
        ...


class ArtifactStore(Protocol):
    """Keeps bytes by their digest, for good."""

    async def keep(self, place: ArtifactPlace, *, digest: str = "", sender: Sender = MESH) -> Artifact:
        """Takes a copy, there for good when this returns; of bytes that are kept already it makes none. A folder is
        kept as a tar that only depends on what is in it. What a digest names must be seen by the sender.

        Raises ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT where the bytes have not the `digest` that is given,
        ARTIFACT_INVALID where they are too many or an archive breaks a rule, PERMISSION_DENIED for places that are
        closed, DEPENDENCY_UNAVAILABLE where the store refuses.
        """
        ...

    async def receive(
        self, pieces: AsyncIterator[bytes], *, filename: str, digest: str = "", sender: Sender = MESH
    ) -> Artifact:
        """Keeps what is sent piece by piece, once it is whole. Raises as `keep` does, and what `pieces` raises."""
        ...

    def read(self, digest: str, *, offset_bytes: int = 0) -> AsyncIterator[bytes]:
        """The bytes from an offset on, in pieces of at most 1 MiB. Raises ARTIFACT_NOT_FOUND, and at the end
        ARTIFACT_CORRUPT where they changed."""
        ...

    async def open(self, digest: str) -> BinaryIO:
        """The bytes as they were sent, as a file to read and seek in, for one thread at a time and off the event loop;
        the caller closes it. Wherever the store is, only the parts that are read are fetched, so a folder's or an
        archive's entries can be read by `tarfile.open(fileobj=…)`.

        Raises ARTIFACT_NOT_FOUND; reading raises ARTIFACT_CORRUPT or DEPENDENCY_UNAVAILABLE."""
        ...

    async def find(self, digest: str) -> Stored | None:
        """What is known of the artifact of that digest."""
        ...

    async def is_seen(self, digest: str, viewer: str) -> bool:
        """Whether the viewer may know of an artifact: who sent it, and who sees a version that is made of it."""
        ...

    async def old(self, before: datetime) -> Sequence[Stored]:
        """The artifacts that were last sent, fetched, or named for a registration, before then; in order of their
        digests. Those that a version is made of may be left out."""
        ...

    async def remove(self, digest: str, *, before: datetime) -> bool:
        """Takes an artifact away if that is still so. Whether it did."""
        ...

    async def sweep(self, before: datetime) -> int:
        """Takes away what interrupted calls left in the store before then. The bytes of it."""
        ...

    def path_of(self, digest: str) -> str:
        """Absolute path of the copy where it lies on a local disk with the bytes as they were sent; else empty."""
        ...

    def uri_of(self, digest: str) -> str:
        """Where the copy is in the store; the name of its object may go on behind it."""
        ...


class ArtifactBook(Protocol):
    """What is recorded of artifacts. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def find(self, digest: str) -> Record | None:
        """The record of an artifact."""
        ...

    async def touch(self, digest: str, *, kind: str = "") -> Record | None:
        """The same, and from now on it is wanted. A `kind` that says more than "file" is recorded too."""
        ...

    async def record(self, new: Record, *, sender: Sender, replaces: str = "") -> Record:
        """Records an artifact, wanted now and the sender's. What is recorded already stays, except that its object
        becomes the new one where it is still `replaces`. The record as it is then."""
        ...

    async def own(self, digest: str, team: str) -> None:
        """The artifact is that team's too; nothing where it is not recorded."""
        ...

    async def is_seen(self, digest: str, viewer: str) -> bool:
        """Whether the viewer's team sent it, or sees a version that is made of it; one who sees all sees it."""
        ...

    async def garbage(self, before: datetime) -> Sequence[Record]:
        """At most 10,000 that no version is made of and that were last wanted before then, in order of digests."""
        ...

    async def forget(self, digest: str, *, before: datetime) -> Record | None:
        """Takes the record away if that is still so, and returns it."""
        ...

    async def known(self, names: Sequence[str]) -> Set[str]:
        """Those objects of the store that something points to."""
        ...


class ArtifactReader(Protocol):
    """Looks into artifacts, without running anything of them."""

    async def read(self, artifact: Artifact) -> Understood:
        """What the artifact is and states. Raises ARTIFACT_INVALID for one of no kind that is known, or broken."""
        ...
