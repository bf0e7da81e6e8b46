"""Forecasts by statsmodels, in a process that ends with its work: the deployer neither waits for its imports nor keeps
its memory."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from services.common.errors import MeshError, Reason
from services.deployer.domain.forecast import Outlook

_TIMEOUT_S = 300.0
_ROOT = Path(__file__).parents[3]
_SAID_MAX = 300


class ProcessForecaster:
    """A `Forecaster`."""

    def __init__(self, *, timeout_s: float = _TIMEOUT_S, command: Sequence[str] = ()) -> None:
        self._timeout_s = timeout_s
        self._command = command or (sys.executable, "-m", "services.deployer.adapters.forecast_process")

    async def outlooks(self, series: Sequence[Sequence[float]], *, day: int) -> Sequence[Outlook]:
        """All in one process, one after the other."""
        if not series:
            return []
        asked = json.dumps({"day": day, "series": [list(one) for one in series]}).encode()
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                out, said = await process.communicate(asked)
        except TimeoutError:
            raise _failed(f"it took longer than {self._timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            last = (said.decode(errors="replace").strip().splitlines() or [f"status {process.returncode}"])[-1]
            raise _failed(last[:_SAID_MAX])
        try:
            found = [Outlook(tuple(one["values"]), float(one["error"])) for one in json.loads(out)]
        except (ValueError, KeyError, TypeError) as error:
            raise _failed(f"it answered what cannot be read ({error})") from error
        if len(found) != len(series):
            raise _failed(f"it answered {len(found)} of {len(series)} series")
        return found


def _failed(why: str) -> MeshError:
    return MeshError(Reason.DEPENDENCY_UNAVAILABLE, f"the forecasting process failed: {why}; it is started again")
