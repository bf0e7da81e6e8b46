"""Places for inputs and outputs of batch jobs, of each kind: a folder of this machine, a bucket of S3, one of GCS."""

from dataclasses import dataclass
from pathlib import Path

from services.batch.domain.job import Compression, Format, Input, Output
from services.batch.domain.places import (
    input_format_of,
    input_path,
    named_compression,
    output_path,
)
from services.batch.domain.places import named_format as format_named
from tests.support.s3 import S3

KINDS = ("local", "s3", "gs")


@dataclass(frozen=True)
class Place:
    """A place of its own for one test. `server` is the endpoint of its bucket; None: it is a folder."""

    kind: str
    folder: Path
    server: S3 | None = None

    def uri(self, name: str) -> str:
        """The URI of a file in it."""
        return (
            f"file://{self.folder}/{name}"
            if self.server is None
            else f"{self.kind}://{self.server.bucket}/{self._key(name)}"
        )

    def put(self, name: str, content: bytes) -> str:
        """Writes a file. Its URI."""
        if self.server is None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            self.server.put(self._key(name), content)
        return self.uri(name)

    def get(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.folder / name).read_bytes() if self.server is None else self.server.get(self._key(name))

    def remove(self, name: str) -> None:
        """Takes a file away."""
        if self.server is None:
            (self.folder / name).unlink()
        else:
            self.server.client.delete_object(Bucket=self.server.bucket, Key=self._key(name))

    def names(self) -> list[str]:
        """What is in it, hidden files too."""
        if self.server is None:
            return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
        prefix = self._key("")
        return sorted(key.removeprefix(prefix) for key in self.server.keys(prefix))

    def input(self, name: str, **changes: object) -> Input:
        """An input of that name."""
        uri = self.uri(name)
        path = input_path(uri, "input_uri")
        return Input(uri, path, input_format_of(path, "", "input.format", "input_uri"), **changes)  # type: ignore[arg-type]

    def output(self, name: str, **changes: object) -> Output:
        """An output of that name."""
        uri = self.uri(name)
        path = output_path(uri, "output_uri")
        kind = format_named(path)
        assert kind is not None
        packed = Compression.NONE if kind is Format.PARQUET else named_compression(path)
        return Output(uri, path, kind, compression=packed, **changes)  # type: ignore[arg-type]

    def _key(self, name: str) -> str:
        return f"{self.folder.name}/{name}"
