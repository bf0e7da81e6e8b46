"""Predictions without pause by callers with keys, while something happens to their keys or their gateway."""

import threading
import time
from dataclasses import dataclass

import httpx

from tests.support.envoy_gateway import TIMEOUT_S, Gateway
from tests.support.gateway_keys import bearer
from tests.support.waiting import until


@dataclass(frozen=True)
class Asked:
    """One request."""

    began_s: float
    """On the monotonic clock."""
    ended_s: float
    status: int
    """0: there was no answer."""
    said: str = ""


class KeyLoad:
    """One caller with a key, over one connection that is made anew when it breaks."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self._gateway = gateway
        self._headers = bearer(key)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="key-load")
        self.asked: list[Asked] = []

    def __enter__(self) -> "KeyLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S)

    def goes_on(self, requests: int = 30) -> None:
        """Waits until it has got some more answers."""
        before = len(self.asked)
        until(lambda: len(self.asked) > before + requests, what="requests go on")

    def statuses(self, *, since_s: float = 0.0) -> set[int]:
        """Of requests that began since then."""
        return {one.status for one in self.asked if one.began_s >= since_s}

    def _run(self) -> None:
        with httpx.Client(base_url=f"http://{self._gateway.address}", timeout=TIMEOUT_S, trust_env=False) as client:
            while not self._stop.is_set():
                began_s = time.monotonic()
                try:
                    answer = client.post("/v1/models/digits/predict", json={}, headers=self._headers)
                    status, said = answer.status_code, answer.text[:300]
                except httpx.HTTPError as error:
                    status, said = 0, repr(error)[:300]
                self.asked.append(Asked(began_s, time.monotonic(), status, said))
