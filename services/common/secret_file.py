"""A secret that is made at the first start and kept in a file of its own."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from services.common.disk import replace_file, sync_folder


def kept_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in the file, which only its owner reads; made where there is none. Processes that start at the same time
    come to one secret. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            # For nobody else from the first byte on: the file that takes its place keeps its mode.
            staged = path.with_suffix(".new")
            staged.unlink(missing_ok=True)
            os.close(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            replace_file(path, [make()])
            sync_folder(path.parent.parent)
        return path.read_bytes()
    finally:
        os.close(lock)
