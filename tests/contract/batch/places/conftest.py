"""Places of each kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.batch_places import KINDS, Place
from tests.support.s3 import S3, s3_server


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Of any kind."""
    if request.param == "local":
        folder = tmp_path / "place"
        folder.mkdir()
        return Place("local", folder)
    return Place(request.param, Path(tmp_path.name), request.getfixturevalue("bucket_server"))


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, bucket_server: S3) -> Place:
    """In a bucket."""
    return Place(request.param, Path(tmp_path.name), bucket_server)
