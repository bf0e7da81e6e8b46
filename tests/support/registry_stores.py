"""Artifact stores of every form over a book in memory, with a look at what lies in them."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from services.common.clock import Clock, SystemClock
from services.common.objects import BucketStore, open_bucket
from services.registry.adapters.artifact_keys import KeyRing, load_keys
from services.registry.adapters.artifact_sources import Sources
from services.registry.adapters.artifact_store import ObjectArtifactStore
from services.registry.adapters.incoming import Encoding
from services.registry.adapters.object_store import BucketObjects, Objects, open_objects
from services.registry.domain.artifacts import Record, Sender
from tests.support.s3 import S3

BUCKETS = ("s3", "gs")
FORMS = ("folder", "plain", "encrypted", *BUCKETS)
"""A folder with compression, one without, one with a key, and a bucket of either kind."""


class MemoryArtifactBook:
    """An `ArtifactBook`. `used` are the digests that versions are made of."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.records: dict[str, Record] = {}
        self.wanted_at: dict[str, datetime] = {}
        self.owners: set[tuple[str, str]] = set()
        self.used: set[str] = set()

    async def find(self, digest: str) -> Record | None:
        """What is recorded."""
        return self.records.get(digest)

    async def touch(self, digest: str, *, kind: str = "") -> Record | None:
        """It is wanted now."""
        found = self.records.get(digest)
        if found is not None:
            self.wanted_at[digest] = self._clock.now()
            self.records[digest] = found = replace(found, kind=found.kind if kind in ("", "file") else kind)
        return found

    async def record(self, new: Record, *, sender: Sender, replaces: str = "") -> Record:
        """Records it."""
        now = self._clock.now()
        found = self.records.setdefault(new.digest, replace(new, created_at=now))
        if found.name == replaces:
            self.records[new.digest] = found = replace(found, name=new.name, stored_bytes=new.stored_bytes)
        self.wanted_at[new.digest] = now
        if sender.team and sender.owns:
            self.owners.add((new.digest, sender.team))
        return found

    async def own(self, digest: str, team: str) -> None:
        """It is that team's too."""
        if digest in self.records:
            self.owners.add((digest, team))

    async def is_seen(self, digest: str, viewer: str) -> bool:
        """Whether its team sent it; versions are not known here."""
        team = viewer.split(" ", 1)[0]
        return team in ("", "*") or (digest, team) in self.owners

    async def garbage(self, before: datetime) -> Sequence[Record]:
        """What is not used and not wanted."""
        return [self.records[digest] for digest in sorted(self.records) if self._is_garbage(digest, before)]

    async def forget(self, digest: str, *, before: datetime) -> Record | None:
        """Takes it away if that is still so."""
        if digest not in self.records or not self._is_garbage(digest, before):
            return None
        self.owners = {(one, team) for one, team in self.owners if one != digest}
        return self.records.pop(digest)

    async def known(self, names: Sequence[str]) -> Set[str]:
        """Those that a record points to."""
        return {one.name for one in self.records.values()} & set(names)

    def _is_garbage(self, digest: str, before: datetime) -> bool:
        return digest not in self.used and self.wanted_at[digest] < before


@dataclass
class Form:
    """Where a store of a kind lies."""

    kind: str
    data_dir: Path
    s3: S3 | None = None
    book: MemoryArtifactBook = field(default_factory=lambda: MemoryArtifactBook(SystemClock()))
    stores: list[ObjectArtifactStore] = field(default_factory=list)
    bucket: BucketStore | None = None
    """Instead of the one that the environment opens."""

    @property
    def local(self) -> bool:
        """Whether it lies in a folder."""
        return self.s3 is None

    @property
    def encrypts(self) -> bool:
        """Whether it has a key."""
        return self.kind == "encrypted"

    @property
    def compresses(self) -> bool:
        """Whether it compresses what pays."""
        return self.kind != "plain"

    @property
    def keys(self) -> KeyRing:
        """Its keys."""
        if not self.encrypts:
            return KeyRing()
        file = self.data_dir.with_name("artifact.key")
        if not file.exists():
            file.write_text("5a" * 32)
        return load_keys([file])

    @property
    def prefix(self) -> str:
        """What keys in the bucket begin with; every test has its own."""
        return f"store/{self.data_dir.parent.name}"

    def open(self) -> Objects:
        """Its objects."""
        if self.bucket is not None:
            return BucketObjects(self.bucket, "s3://bucket")
        uri = f"{self.kind}://{self.s3.bucket}/{self.prefix}" if self.s3 is not None else ""
        return open_objects(uri, default=self.data_dir / "artifacts")

    def objects(self) -> dict[str, int]:
        """The names of what lies in it, with the bytes of each."""
        return {one.name: one.size_bytes for one in self.open().listed("sha256")}

    def incoming(self) -> list[Path]:
        """What is on its way."""
        return list((self.data_dir / "artifacts" / "incoming").iterdir())

    def uri(self, name: str) -> str:
        """Where an object is."""
        return self.open().uri(name)

    def content(self, name: str) -> bytes:
        """The bytes of an object as they are stored."""
        stretch = self.open().open(name)
        try:
            return stretch.read_at(0, stretch.size_bytes)
        finally:
            stretch.close()

    def put(self, name: str, content: bytes) -> None:
        """Puts an object that nobody knows of."""
        self.open().put(name, content)

    def damage(self, name: str, place: int) -> None:
        """Changes a byte of a file."""
        path = self.data_dir / "artifacts" / name
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        place = min(place, len(content) - 1)
        content[place] ^= 1
        path.write_bytes(content)

    def remove(self, name: str) -> None:
        """Takes an object away behind the store's back."""
        self.open().remove([name])

    def forget(self) -> None:
        """The database is lost."""
        self.book.__init__(SystemClock())  # type: ignore[misc]

    async def close(self) -> None:
        """Stops the stores."""
        for store in self.stores:
            await store.stop()


async def build_store(form: Form, *, bytes_max: int, copies_max: int = 2) -> ObjectArtifactStore:
    """A store of that form, started."""
    objects = form.open()
    store = ObjectArtifactStore(
        objects=objects,
        book=form.book,
        sources=Sources(open_bucket=open_bucket, own_folder=objects.folder, own_uri=objects.uri(""), allowed=[]),
        incoming=form.data_dir / "artifacts" / "incoming",
        encoding=Encoding(compress=form.compresses, plain=form.local, keys=form.keys),
        bytes_max=bytes_max,
        copies_max=copies_max,
    )
    form.stores.append(store)
    await store.start()
    return store
