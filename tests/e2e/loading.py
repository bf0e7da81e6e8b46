"""One caller that predicts without pause while tests kill parts of the mesh."""

import threading
from collections import Counter

import httpx

from tests.e2e.driving import MODEL, TIMEOUT_S, Rest
from tests.support.mesh import Mesh
from tests.support.waiting import until


class Load:
    """Counts right answers and keeps failures."""

    def __init__(self, rest: Rest, mesh: Mesh, *, model: str = MODEL) -> None:
        self._rest = rest
        self._model = model
        self._body = {"instances": [mesh.samples[0]["instance"]]}
        self._label = mesh.samples[0]["label"]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self.versions: Counter[str] = Counter()
        """Right answers, by the version that gave them."""
        self.failures: list[str] = []

    @property
    def right(self) -> int:
        """Right answers."""
        return self.versions.total()

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * TIMEOUT_S)

    def goes_on(self, *, answers: int = 50, within_s: float = 60.0) -> None:
        """Waits for so many right answers more."""
        before = self.right
        until(lambda: self.right >= before + answers, within_s=within_s, what="predictions go on")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._rest.predict(self._body, model=self._model)
                assert answer["predictions"][0]["output"] == self._label
                self.versions[answer["model_version"]] += 1
            except (AssertionError, httpx.HTTPError) as error:
                self.failures.append(repr(error)[:500])
