"""Files that survive a power failure, or are as they were before."""

import os
from collections.abc import Iterable
from pathlib import Path


def replace_file(path: Path, pieces: Iterable[bytes]) -> int:
    """Makes `path` a file of these pieces: whole or not at all, and for good, its name included. Nobody else may write
    it at the same time. Returns the bytes. Raises OSError."""
    staged = path.with_suffix(".new")
    with staged.open("wb") as file:
        file.writelines(pieces)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
    # A rename that a power failure takes back would bring what was there before to life.
    sync_folder(path.parent)
    return size


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
