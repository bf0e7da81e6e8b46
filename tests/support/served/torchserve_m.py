"""The model "m" for TorchServe: gives each row back. `@FOLDER@` is filled in before it is archived."""

import fcntl
from pathlib import Path

from ts.torch_handler.base_handler import BaseHandler

_FOLDER = Path("@FOLDER@")


class M(BaseHandler):
    """Gets rows and gives rows, as TorchServe's `json` envelope has it."""

    def initialize(self, context):
        """There is nothing to load."""
        self.initialized = True

    def handle(self, data, context):
        """One batch."""
        with (_FOLDER / "taken").open("ab") as count:
            count.write(b".")
        with (_FOLDER / "hold").open("rb") as hold:
            fcntl.flock(hold, fcntl.LOCK_SH)
        if -13 in data:
            raise ValueError("-13 is not welcome here")
        return list(data)
