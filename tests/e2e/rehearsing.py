"""A model whose new version misbehaves on demand, and callers who keep asking it: for tests of releases."""

import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

from examples.rehearsal.models import CLASSES, NEW, OLD, Fault, write
from tests.e2e.driving import TIMEOUT_S, Rest, bearer, deploy

HIGH_SHARE = 0.8
"""Values are mostly above a half, so that answering the opposite changes the classes' shares."""


@dataclass(frozen=True)
class Answered:
    """What a caller got."""

    version: str
    status: int
    request_id: str
    value: float
    label: str


def install(rest: Rest, folder: Path) -> str:
    """Registers and deploys both versions as a model of its own, all traffic on the old one; its name."""
    model = f"rehearsal-{secrets.token_hex(4)}"
    for version, file in write(folder).items():
        rest.ok(
            "POST",
            "/v1/models",
            json={
                "name": model,
                "version": version,
                "framework": "onnx",
                "artifact_uri": file.as_uri(),
                "metadata": {"class_names": list(CLASSES)},
            },
        )
    deploy(rest, model, OLD, "old", traffic_split={OLD: 100})
    deploy(rest, model, NEW, "new")
    return model


class Callers:
    """Some who ask without pause until the end of the `with` block. What they ask for may be changed meanwhile."""

    def __init__(self, gateway: str, model: str, *, key: str = "", callers: int = 4) -> None:
        self._bearer = bearer(key)
        self._url = f"http://{gateway}/v1/models/{model}/predict"
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(seed,), name=f"caller {seed}") for seed in range(callers)
        ]
        self.fault = Fault.NONE
        self.share = 0.0
        """How many of the requests have the fault."""
        self.answers: list[Answered] = []
        self._since_s = 0.0

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=2 * TIMEOUT_S)

    def failed(self) -> Counter[str]:
        """How many requests failed, by the version that was to answer."""
        with self._lock:
            return Counter(item.version for item in self.answers if item.status != 200)

    def answered(self) -> Counter[str]:
        """How many requests were answered, by version."""
        with self._lock:
            return Counter(item.version for item in self.answers if item.status == 200)

    def taken(self) -> list[Answered]:
        """What was answered since this was asked last."""
        with self._lock:
            taken, self.answers = self.answers, []
        return taken

    def settle(self) -> None:
        """Forgets all that was asked before now, also what is answered later."""
        with self._lock:
            self._since_s = time.monotonic()
            self.answers = []

    def _run(self, seed: int) -> None:
        draw = Random(seed)
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False, headers=self._bearer) as http:
            while not self._over.is_set():
                value = draw.uniform(0.55, 1.0) if draw.random() < HIGH_SHARE else draw.uniform(0.0, 0.45)
                fault = self.fault if draw.random() < self.share else Fault.NONE
                asked_s = time.monotonic()
                answer = http.post(
                    self._url,
                    json={"instances": [{"value": value, "fault": int(fault)}]},
                    headers={"x-user-id": f"user-{draw.randrange(100_000)}"},
                )
                item = _read(answer, value)
                with self._lock:
                    if asked_s >= self._since_s:
                        self.answers.append(item)


def _read(answer: httpx.Response, value: float) -> Answered:
    body: dict[str, Any] = answer.json()
    if answer.status_code == 200:
        label = str(body["predictions"][0]["class"])
        return Answered(str(body["model_version"]), 200, str(body["request_id"]), value, label)
    metadata: dict[str, str] = next((item.get("metadata", {}) for item in body["details"] if "metadata" in item), {})
    return Answered(str(metadata.get("version", "?")), answer.status_code, "", value, "")


def minutes(seconds: float) -> float:
    """Seconds as the API's minutes."""
    return seconds / 60


def wall() -> float:
    """Seconds, for figures that tests print."""
    return time.monotonic()
