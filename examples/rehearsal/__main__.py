"""Rehearses a release on a running mesh: deploys both versions, then asks them, with faults for the new one.

    python -m examples.rehearsal setup                          # registers and deploys; all traffic on the old version
    infermesh canary start rehearsal v2-0-0 --stage 10%/1m
    python -m examples.rehearsal load --fault error --seconds 60

While the load runs it shows what each version answers; `infermesh canary status rehearsal --watch` shows the rest.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random

from infermesh.client import Client, InfermeshError
from infermesh.client.outcomes import outcome
from infermesh.monitor.v1 import outcome_pb2
from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.rehearsal.models import CLASSES, MODEL, NEW, OLD, Fault, write

_TIMEOUT_S = 20.0
_USERS = 10_000
_SHOW_EVERY_S = 0.5
_OUTCOMES_MAX = 500
_OUTCOMES_LATE_S = 1.0
"""The outcomes of a second are reported together, as a pipeline would."""


class Tally:
    """What callers got, by version. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, list[float]] = {}

    def add(self, version: str, *, took_s: float, right: bool, failed: bool) -> None:
        """Counts an answer or a failure."""
        with self._lock:
            row = self._rows.setdefault(version, [0.0, 0.0, 0.0, 0.0])
            row[0] += 1
            row[1] += failed
            row[2] += not right and not failed
            row[3] += took_s

    def table(self) -> Table:
        """The figures so far."""
        table = Table("version", "requests", "failed", "wrong", "mean ms", title=MODEL, title_justify="left")
        with self._lock:
            for version, (requests, failed, wrong, took_s) in sorted(self._rows.items()):
                table.add_row(
                    version, f"{requests:,.0f}", f"{failed:,.0f}", f"{wrong:,.0f}", f"{took_s / requests * 1000:.1f}"
                )
        return table


class Caller:
    """One caller. The share `faulty` of its requests has the fault."""

    def __init__(self, mesh: Client, tally: Tally, *, fault: Fault, faulty: float, outcomes: bool, seed: int) -> None:
        self._mesh = mesh
        self._tally = tally
        self._fault = fault
        self._faulty = faulty
        self._random = Random(seed)  # noqa: S311 - a load, no secret
        self._outcomes: list[outcome_pb2.Outcome] | None = [] if outcomes else None
        self._reported_s = time.monotonic()

    def ask(self) -> None:
        """One request, and what became of it."""
        draw = self._random
        value = draw.random()
        fault = self._fault if draw.random() < self._faulty else Fault.NONE
        truth = CLASSES[value > 0.5]
        began_s = time.monotonic()
        try:
            answer = self._mesh.predict(
                MODEL, [{"value": value, "fault": int(fault)}], user_id=f"user-{draw.randrange(_USERS)}"
            )
        except InfermeshError as error:
            self._tally.add(
                error.metadata.get("version", "?"), took_s=time.monotonic() - began_s, right=False, failed=True
            )
            return
        said = answer.predictions[0].label
        took_s = time.monotonic() - began_s
        self._tally.add(answer.model_version, took_s=took_s, right=said == truth, failed=False)
        self._report(answer.request_id, truth, clicked=said == truth and draw.random() < 0.3)

    def _report(self, request_id: str, truth: str, *, clicked: bool) -> None:
        if self._outcomes is None:
            return
        self._outcomes.append(outcome(request_id, truth=truth, metrics={"ctr": float(clicked)}))
        now_s = time.monotonic()
        if len(self._outcomes) >= _OUTCOMES_MAX or now_s - self._reported_s > _OUTCOMES_LATE_S:
            self._mesh.outcomes.report_many(self._outcomes)
            self._outcomes, self._reported_s = [], now_s


def setup(mesh: Client, say: Console) -> None:
    """Registers and deploys both versions; all traffic on the old one."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        for version, file in write(Path(folder)).items():
            try:
                mesh.models.register(MODEL, version, file, framework="onnx", metadata={"class_names": list(CLASSES)})
            except InfermeshError as error:
                if error.reason != "VERSION_EXISTS":
                    raise
    for version in (OLD, NEW):
        try:
            mesh.deployments.deploy(MODEL, version, traffic_split={OLD: 100} if version == OLD else None)
        except InfermeshError as error:
            if error.reason != "DEPLOYMENT_EXISTS":
                raise
        mesh.deployments.wait(MODEL, version.replace(".", "-"), timeout_s=60.0)
        say.print(f"[green]✓[/] {MODEL} {version} is deployed as {version.replace('.', '-')}")


def load(mesh: Client, say: Console, arguments: argparse.Namespace) -> None:
    """Asks for `arguments.seconds` seconds."""
    tally, over = Tally(), threading.Event()

    def work(seed: int) -> None:
        caller = Caller(
            mesh,
            tally,
            fault=Fault[arguments.fault.upper()],
            faulty=arguments.share,
            outcomes=arguments.outcomes,
            seed=seed,
        )
        while not over.is_set():
            caller.ask()

    threads = [threading.Thread(target=work, args=(seed,), name=f"caller {seed}") for seed in range(arguments.callers)]
    for thread in threads:
        thread.start()
    try:
        with Live(tally.table(), console=say, refresh_per_second=4) as live:
            end_s = time.monotonic() + arguments.seconds
            while time.monotonic() < end_s:
                over.wait(_SHOW_EVERY_S)
                live.update(tally.table())
    finally:
        over.set()
        for thread in threads:
            thread.join(2 * _TIMEOUT_S)


def main() -> int:
    """The command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.rehearsal", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--gateway", default="127.0.0.1:8080", help="host:port of the mesh")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="register and deploy both versions")
    asking = commands.add_parser("load", help="ask, and show what each version answers")
    asking.add_argument("--fault", choices=[fault.name.lower() for fault in Fault], default="none")
    asking.add_argument("--share", type=float, default=0.1, help="the share of requests that have the fault (0.1)")
    asking.add_argument("--callers", type=int, default=8, help="how many ask at once (8)")
    asking.add_argument("--seconds", type=float, default=30.0, help="for how long (30)")
    asking.add_argument("--outcomes", action="store_true", help="report the truth and a metric, ctr, of each answer")
    arguments = parser.parse_args()
    say = Console()
    try:
        with Client(arguments.gateway, timeout_s=_TIMEOUT_S) as mesh:
            mesh.wait_until_connected(_TIMEOUT_S)
            if arguments.command == "setup":
                setup(mesh, say)
            else:
                load(mesh, say, arguments)
    except InfermeshError as error:
        sys.stderr.write(f"rehearsal: {str(error).rstrip('.')}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
