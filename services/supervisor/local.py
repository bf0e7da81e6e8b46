"""One run of the local mesh: start, register and deploy the first model, show what to try, wait, stop."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine

from rich.console import Console

from services.common.clock import SystemClock
from services.common.tether import tethered
from services.supervisor.console import ConsoleReporter
from services.supervisor.engine import Supervisor
from services.supervisor.examples import DIGITS, lines_to_try
from services.supervisor.holds import HoldFiles
from services.supervisor.keys import OperatorKeys
from services.supervisor.ports import MeshPorts
from services.supervisor.process import PartFailedError
from services.supervisor.settings import ROOT, SupervisorSettings
from services.supervisor.state import StateFile, read_ports, sole_owner
from services.supervisor.wiring import authority_file, build_stages, own_certificate

_BOOTSTRAP_TIMEOUT_S = 60.0


async def run_local(settings: SupervisorSettings, ports: MeshPorts) -> int:
    """Returns 0 once SIGINT or SIGTERM came and everything is down. Raises PartFailedError with what to do."""
    console = ConsoleReporter(Console())
    asked = _stop_asked(console)
    with sole_owner(settings.data_dir):
        clock = SystemClock()
        state = StateFile(settings.data_dir, ports)
        console.say(f"Starting the mesh; its data is in {settings.data_dir}")
        supervisor = Supervisor(
            build_stages(settings, ports, clock=clock),
            clock=clock,
            reporters=(console, state),
            holds=HoldFiles(settings.data_dir, clock=clock),
        )
        began_s = clock.monotonic()

        keys = (
            OperatorKeys(f"127.0.0.1:{ports.registry}", clock, own_certificate(settings))
            if settings.auth == "on"
            else None
        )

        async def welcome() -> None:
            if settings.bootstrap:
                await _bootstrap(settings, ports, await keys.passing("the mesh's own start") if keys else "")
            console.table()
            if keys is not None:
                # Made when it can be shown: a start that fails before leaves nobody with a key that nobody saw.
                console.key(await keys.first())
            if settings.bootstrap:
                tls, authority = settings.tls != "off", authority_file(settings)
                console.lines_to_try(lines_to_try(ports, key=keys is not None, tls=tls, authority=authority))
            scheme = "http" if settings.tls == "off" else "https"
            console.say(f"\nThe console, for a browser: {scheme}://127.0.0.1:{ports.gateway}/console")
            console.say(f"\nReady after {clock.monotonic() - began_s:.1f} s. Ctrl-C stops everything.")
            state.complete()
            await asked.wait()

        try:
            if await _first(supervisor.start(), asked.wait()) == 0:
                await _first(welcome(), supervisor.watch(), asked.wait())
        finally:
            await supervisor.stop()
            state.remove()
    return 0


def _stop_asked(console: ConsoleReporter) -> asyncio.Event:
    """Set by the first signal that asks for the end."""
    asked = asyncio.Event()

    def ask() -> None:
        if not asked.is_set():
            console.say("\nStopping")
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return asked


async def make_key(settings: SupervisorSettings, name: str) -> str:
    """Another key for an operator of the mesh that runs on the settings' data. Raises SystemExit where none runs."""
    ports = read_ports(settings.data_dir)
    clock = SystemClock()
    return await OperatorKeys(f"127.0.0.1:{ports['registry']}", clock, own_certificate(settings)).another(name)


async def _bootstrap(settings: SupervisorSettings, ports: MeshPorts, key: str) -> None:
    """Registers and deploys digits through the public API, as any user would; quick when that is done already."""
    scheme = "" if settings.tls == "off" else "https://"
    shown = {"INFERMESH_API_KEY": key} if key else {}
    if authority := authority_file(settings):
        shown["INFERMESH_CA_FILE"] = str(authority)
    process = await asyncio.create_subprocess_exec(
        *tethered(
            (
                *(sys.executable, "-m", "examples.digits.bootstrap"),
                *("--gateway", f"{scheme}127.0.0.1:{ports.gateway}", "--data", str(DIGITS)),
            ),
            signal_number=signal.SIGTERM,
        ),
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **shown},
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_BOOTSTRAP_TIMEOUT_S):
            exit_code = await process.wait()
    except TimeoutError:
        raise PartFailedError(
            f"digits was not deployed within {_BOOTSTRAP_TIMEOUT_S:.0f} s; the deployer's log says why"
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if exit_code:
        raise PartFailedError("digits could not be deployed; the lines above and the deployer's log say why")


async def _first(*works: Coroutine[None, None, object]) -> int:
    """Runs all, returns which one ended first and cancels the others. Raises what that one raised."""
    tasks = [asyncio.create_task(work, name=f"first:{place}") for place, work in enumerate(works)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        place = min(tasks.index(task) for task in done)
        tasks[place].result()
        return place
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
