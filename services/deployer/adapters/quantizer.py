"""Quantising ONNX models, by a script that runs in the model servers' environment."""

import json
import subprocess
import tempfile
from pathlib import Path

from services.common.errors import MeshError, Reason
from services.deployer.domain.package import Precision, Quantised

_TIMEOUT_S = 900.0
_SAID_MAX = 1000


class OnnxQuantizer:
    """Blocking: for threads other than the event loop's."""

    def __init__(self, python: Path, script: Path) -> None:
        self._python = python
        self._script = script

    def quantise(self, model: Path, out: Path, *, serving: Path, precision: Precision, sample: bytes) -> Quantised:
        """Writes `out` and says how many answers on the sample changed.

        Raises QUANTISATION_REFUSED where that are more than may, or where it cannot be done.
        """
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            instances = Path(folder) / "sample.json"
            instances.write_bytes(sample)
            command = [str(self._python), str(self._script), "--model", str(model), "--out", str(out)]
            command += ["--serving", str(serving), "--sample", str(instances), "--answer", precision.answer]
            try:
                done = subprocess.run(  # noqa: S603 - a script of this project over files of this deployer
                    command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
                )
            except subprocess.TimeoutExpired:
                raise _refused(f"it took longer than {_TIMEOUT_S:.0f} s") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
            raise _refused(last[:_SAID_MAX])
        made = Quantised(**json.loads(done.stdout.strip().splitlines()[-1]))
        if made.changed > precision.accuracy_drop_max * made.rows:
            raise _refused(
                f"{made.changed} of {made.rows} answers on the reference sample change, and at most "
                f"{precision.accuracy_drop_max:.2%} may (serving.accuracy_drop_max)"
            )
        return made


def _refused(why: str) -> MeshError:
    return MeshError(
        Reason.QUANTISATION_REFUSED,
        f"the version cannot be run in 8-bit integers: {why}; deploy it as it was trained (serving.precision empty)",
    )
