"""Models that are Python code: a folder or a zip with a model.py."""

from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.refused import BrokenError
from services.registry.domain.frameworks import Understood

_FILE = "model.py"
_CODE_BYTES_MAX = 1024 * 1024


class PythonReader:
    """A `FormatReader`."""

    form = "a folder of Python code"

    def why_not(self, contents: Contents) -> str:
        """By its model.py."""
        files = contents.files if contents.packed else contents.zip()
        return "" if _FILE in files else f"no Python model (no folder or zip with {_FILE})"

    def read(self, contents: Contents) -> Understood:
        """Nothing is read but that it is text: code says nothing that counts. Raises RefusedError."""
        entry = (contents.files if contents.packed else contents.zip())[_FILE]
        try:
            code = entry.content(_CODE_BYTES_MAX).decode()
        except UnicodeDecodeError:
            raise BrokenError("its model.py is no text in UTF-8", "save it as UTF-8") from None
        if not code.strip() or "\0" in code:
            raise BrokenError("its model.py is empty, or no text", "put the model's code there")
        return Understood(
            "python",
            self.form,
            model_path=_FILE,
            unsafe="loading it runs its model.py",
            undeclared="code states nothing",
        )
