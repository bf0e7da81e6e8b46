"""Predictions without pause through a gateway, while something happens to it."""

import threading
from collections import Counter

import httpx

from tests.support.envoy_gateway import TIMEOUT_S, Gateway
from tests.support.waiting import until

_SHOWN = 300


class Load:
    """Predicts from several threads, each over one connection, and counts versions and failures."""

    def __init__(self, gateway: Gateway, *, threads: int = 3) -> None:
        self._gateway = gateway
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"load-{number}") for number in range(threads)]
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def goes_on(self) -> None:
        """Waits until it has got some more answers."""
        before = self.versions.total()
        until(lambda: self.versions.total() > before + 30, what="predictions go on")

    def _run(self) -> None:
        with httpx.Client(base_url=f"http://{self._gateway.address}", timeout=TIMEOUT_S, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/models/digits/predict", json={})
                    assert answer.status_code == 200, answer.text
                    self.versions[answer.json()["headers"]["x-route-version"]] += 1
                except (AssertionError, httpx.HTTPError, KeyError) as error:
                    self.failures.append(repr(error)[:_SHOWN])
