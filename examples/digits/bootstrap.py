"""Registers and deploys both versions of digits through the public API, and waits until the gateway answers rightly.

    python -m examples.digits.bootstrap --gateway 127.0.0.1:8080 --data .build/digits

Run it as often as you like: what is there is left alone, traffic included, so on a mesh that has digits it only asks
for predictions. It is an example too: this is all that a model needs to go from a file to answers.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import grpc
from infermesh.client import Client, InfermeshError
from infermesh.client.deployments import is_settled
from infermesh.client.predictions import Answer
from infermesh.client.transport import Pacer
from rich.console import Console

MODEL = "digits"
TIMEOUT_S = 50.0
"""For all of it. A version loads within seconds; the rest is patience with a machine that starts ten parts at once."""
CALL_TIMEOUT_S = 10.0
REFERENCE_ROWS = 100

T = TypeVar("T")


class BootstrapError(Exception):
    """Digits does not answer; the message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Version:
    """What training left of a version."""

    version: str
    artifact: Path
    framework: str
    framework_version: str
    metadata: Mapping[str, object]
    reference: Sequence[Mapping[str, object]] = ()
    """Digits that predictions are explained against."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A held-out digit, and what each version says of it."""

    instance: Mapping[str, object]
    expected: Mapping[str, int]


class Bootstrap:
    """One run."""

    def __init__(
        self, mesh: Client, *, say: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._mesh = mesh
        self._say = say
        self._monotonic = monotonic
        self._deadline = monotonic() + TIMEOUT_S

    def run(self, versions: Sequence[Version], samples: Sequence[Sample]) -> None:
        """Returns once every version answers. Raises BootstrapError, InfermeshError."""
        for version in versions:
            self._patiently(lambda version=version: self._register(version))  # type: ignore[misc]
        self._patiently(lambda: self._deploy([version.version for version in versions]))
        for version in versions:
            deployment = self._mesh.deployments.wait(MODEL, self._name_of(version.version), timeout_s=self._left_s())
            self._right_answer(version.version, samples)
            # The first may have waited for a model server that has only just begun; people want to know the usual.
            answer = self._right_answer(version.version, samples)
            took = f", loaded in {deployment.load_time_ms:.0f} ms" if deployment.load_time_ms else ""
            self._done(f"{version.version} answers in {answer.latency_ms:.1f} ms{took}")

    def _register(self, version: Version) -> None:
        try:
            self._mesh.models.register(
                MODEL,
                version.version,
                version.artifact,
                framework=version.framework,
                framework_version=version.framework_version,
                metadata=version.metadata,
                reference=version.reference,
            )
        except InfermeshError as error:
            if error.reason != "VERSION_EXISTS":
                raise
            # Made anew by other libraries or another release. Versions never change, so the one that is there stays.
            self._say(f"[dim]    {MODEL} {version.version} is registered already with other content; it stays[/]")

    def _deploy(self, versions: Sequence[str]) -> None:
        deployed = self._mesh.deployments.list(model=MODEL)
        there = {item.version: item for item in deployed if item.status != "terminating"}
        for place, version in enumerate(versions):
            found = there.get(version)
            if found is None:
                # Only where nothing was there: later the shares are whatever people made of them.
                split = {version: 100} if not there and place == 0 else None
                self._mesh.deployments.deploy(MODEL, version, traffic_split=split)
            elif found.status == "failed" and is_settled(found):
                self._mesh.deployments.restart(MODEL, found.deployment_name)

    def _name_of(self, version: str) -> str:
        for deployment in self._mesh.deployments.list(model=MODEL):
            if deployment.version == version:
                return deployment.deployment_name
        raise BootstrapError(f"{MODEL} {version} was undeployed while it was waited for; start the mesh again")

    def _right_answer(self, version: str, samples: Sequence[Sample]) -> Answer:
        """An answer, checked. The gateway learns of a version a moment after it is active, so the first may be late."""
        answer = self._patiently(
            lambda: self._mesh.predict(
                MODEL, [sample.instance for sample in samples], version=version, timeout_s=CALL_TIMEOUT_S
            ),
            also=("MODEL_NOT_SERVED", "VERSION_NOT_SERVED", "NOT_FOUND"),
        )
        # Not judged by samples on which the versions differ: one from another training may differ there as well.
        wrong = [
            sample
            for sample, said in zip(samples, answer.predictions, strict=True)
            if len(set(sample.expected.values())) == 1 and said.output != sample.expected[answer.model_version]
        ]
        if wrong:
            raise BootstrapError(
                f"{MODEL} {answer.model_version} gets {len(wrong)} of {len(samples)} digits wrong that it was trained "
                "to get right; `make clean-data` forgets all that is registered, then start the mesh again"
            )
        return answer

    def _patiently(self, work: Callable[[], T], *, also: Sequence[str] = ()) -> T:
        """What `work` returns. Repeats it while its failure may pass, and for the reasons in `also`."""
        pacer = Pacer(timeout_s=self._left_s(), most_s=0.5)
        while True:
            try:
                return work()
            except InfermeshError as error:
                late = error.is_transient or error.code is grpc.StatusCode.DEADLINE_EXCEEDED or error.reason in also
                if not late or not pacer.pause():
                    raise

    def _left_s(self) -> float:
        return max(0.01, self._deadline - self._monotonic())

    def _done(self, text: str) -> None:
        self._say(f"  [green]✓[/] {MODEL:<10} {text}")


def read_versions(data: Path) -> list[Version]:
    """Both versions, the oldest first. Raises BootstrapError where files are missing or broken."""
    found = []
    for path in sorted(data.glob(f"{MODEL}-v*.json")):
        with _broken_files_named(path):
            trained = json.loads(path.read_bytes())
            found.append(
                Version(
                    version=trained["version"],
                    artifact=data / trained["artifact"],
                    framework=trained["framework"],
                    framework_version=trained["framework_version"],
                    metadata=trained["metadata"],
                )
            )
    if not found:
        raise BootstrapError(f"there is no trained {MODEL} model in {data}; `make setup` makes it")
    reference = read_reference(data)
    return [replace(one, reference=reference) for one in found]


def read_reference(data: Path) -> list[Mapping[str, object]]:
    """Digits of all kinds, spread over those that training held out. Raises BootstrapError where the file is broken."""
    path = data / "holdout.jsonl"
    with _broken_files_named(path):
        lines = path.read_text().splitlines()
        return [
            {"X": json.loads(line)["X"]} for line in lines[:: max(1, len(lines) // REFERENCE_ROWS)][:REFERENCE_ROWS]
        ]


def read_samples(data: Path) -> list[Sample]:
    """Held-out digits. Raises BootstrapError where the file is missing or broken."""
    path = data / "samples.json"
    with _broken_files_named(path):
        return [Sample(item["instance"], item["expected"]) for item in json.loads(path.read_bytes())]


@contextmanager
def _broken_files_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise BootstrapError(
            f"{path} is not what training writes ({fault}); remove {path.parent} and run `make setup`"
        ) from None


def main() -> int:
    """Returns 0 when both versions answer, else 1 with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.bootstrap", description=__doc__)
    parser.add_argument("--gateway", default="127.0.0.1:8080", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="what examples/digits/train.py wrote")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    try:
        versions, samples = read_versions(arguments.data), read_samples(arguments.data)
        with Client(arguments.gateway, timeout_s=CALL_TIMEOUT_S) as mesh:
            mesh.wait_until_connected(CALL_TIMEOUT_S)
            Bootstrap(mesh, say=console.print).run(versions, samples)
    except (BootstrapError, InfermeshError, ValueError) as error:
        sys.stderr.write(f"infermesh: {str(error).rstrip('.')}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
