"""Models that are Python code: a folder or a zip with a model.py, and PyTorch modules whose code lies beside their
weights."""

from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.refused import BrokenError
from services.registry.domain.frameworks import Understood

_FILE = "model.py"
_STATES = ("state_dict.pt", "state_dict.pth", "state_dict.safetensors")
"""Beside a model.py, the weights of the PyTorch module that it defines."""
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
        files = contents.files if contents.packed else contents.zip()
        entry = files[_FILE]
        try:
            code = entry.content(_CODE_BYTES_MAX).decode()
        except UnicodeDecodeError:
            raise BrokenError("its model.py is no text in UTF-8", "save it as UTF-8") from None
        if not code.strip() or "\0" in code:
            raise BrokenError("its model.py is empty, or no text", "put the model's code there")
        state = next((name for name in _STATES if contents.packed and name in files), "")
        return Understood(
            "pytorch" if state else "python",
            f"a PyTorch module with its {state}" if state else self.form,
            model_path=_FILE,
            unsafe="loading it runs its model.py",
            undeclared="code states nothing",
        )
