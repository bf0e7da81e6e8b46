"""A real gateway under load while a model's rules change all the time: no request fails, and each answer has a version
that the rules allowed while the request was under way."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

import httpx
import pytest

from services.router.adapters.envoy.buckets import bucket_of
from services.router.domain.places import in_order, reassigned
from services.router.domain.routing import Condition, ModelRoutes, Share
from services.router.domain.sticky import place_of, version_at
from tests.support.envoy_gateway import TIMEOUT_S, Gateway, running_gateway
from tests.support.waiting import until

CHANGES = 240
MODEL, USER, REGION = "digits", "x-user-id", "x-region"
USERS = [f"user-{number}" for number in range(30)]
VERSIONS = [f"v{number}.0.0" for number in range(1, 6)]
NEIGHBOUR = next(name for name in (f"m-{number}" for number in count()) if bucket_of(name) == bucket_of(MODEL))
"""Another model, which Envoy is sent whenever the first one changes."""
BETWEEN_REQUESTS = 8
"""Answers before the next change."""

Asked = dict[str, str]


@dataclass(frozen=True)
class Answered:
    """A request and its answer."""

    began_s: float
    ended_s: float
    asked: Asked
    version: str | None


@dataclass
class Era:
    """Rules, and when they could have been in force: from the call that publishes them to the return of the next."""

    routes: ModelRoutes | None
    began_s: float
    ended_s: float = float("inf")

    def touches(self, answer: Answered) -> bool:
        """Whether these rules could have been in force while the request was under way."""
        return self.began_s <= answer.ended_s and answer.began_s <= self.ended_s

    def allows(self, answer: Answered) -> bool:
        """Whether these rules can have given this answer."""
        return self.touches(answer) and answer.version in allowed(self.routes, answer.asked)


def allowed(routes: ModelRoutes | None, asked: Asked) -> set[str | None]:
    """What a request may get by rules; nothing where the model has no traffic."""
    if routes is None:
        return {None}
    for condition in routes.conditions:
        value = asked.get(condition.header)
        if value is None:
            continue
        if value.startswith(condition.values) if condition.prefix else value in condition.values:
            return {condition.version}
    if routes.sticky_header in asked:
        return {version_at(routes.shares, place_of(MODEL, asked[routes.sticky_header]))}
    return {share.version for share in routes.shares}


def histories(drawn: Random) -> Iterator[ModelRoutes | None]:
    """Rules, each out of the one before: shares move, conditions and versions come and go, all traffic ends."""
    shares = in_order({VERSIONS[0]: 100})
    while True:
        if drawn.random() < 0.04:
            yield None
            continue
        chosen = drawn.sample(VERSIONS, drawn.randint(1, 4))
        cuts = sorted(drawn.sample(range(1, 100), len(chosen) - 1))
        weights = {version: end - begin for version, begin, end in zip(chosen, [0, *cuts], [*cuts, 100], strict=True)}
        known = [share.version for share in shares if share.version not in weights]
        shares = reassigned(shares, {**weights, **dict.fromkeys(known, 0)})
        conditions = tuple(condition(drawn, chosen) for _ in range(drawn.randint(0, 3)))
        yield ModelRoutes(MODEL, tuple(sorted(chosen)), shares, drawn.choice(("", USER)), conditions)


def condition(drawn: Random, versions: Sequence[str]) -> Condition:
    if drawn.random() < 0.5:
        return Condition(REGION, ("eu-",), drawn.choice(versions), prefix=True)
    return Condition(USER, tuple(drawn.sample(USERS, 10)), drawn.choice(versions))


class Load:
    """Asks without pause, from several threads."""

    def __init__(self, gateway: Gateway, threads: int = 3) -> None:
        self._gateway = gateway
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(Random(seed),)) for seed in range(threads)]
        self.answers: list[Answered] = []
        self.neighbours: Counter[str | None] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def go_on(self) -> None:
        """Waits for some more answers."""
        enough = len(self.answers) + BETWEEN_REQUESTS
        until(lambda: len(self.answers) >= enough, what="the load goes on")

    def _run(self, drawn: Random) -> None:
        with httpx.Client(base_url=f"http://{self._gateway.address}", timeout=TIMEOUT_S, trust_env=False) as client:
            while not self._ended.is_set():
                asked = {USER: drawn.choice(USERS)} if drawn.random() < 0.8 else {}
                asked |= {REGION: drawn.choice(("eu-west-1", "us-east-1"))} if drawn.random() < 0.5 else {}
                try:
                    self._ask(client, asked, neighbour=drawn.random() < 0.2)
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    self.failures.append(repr(error))

    def _ask(self, client: httpx.Client, asked: Asked, *, neighbour: bool) -> None:
        model = NEIGHBOUR if neighbour else MODEL
        began_s = time.monotonic()
        answer = client.post(f"/v1/models/{model}/predict", json={}, headers=asked)
        ended_s = time.monotonic()
        if answer.status_code != 200:
            self.failures.append(answer.text)
            return
        version = answer.json()["headers"].get("x-route-version")
        if neighbour:
            self.neighbours[version] += 1
        else:
            self.answers.append(Answered(began_s, ended_s, asked, version))


def test_each_answer_is_by_rules_of_its_time(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = histories(Random(11))
    neighbour = ModelRoutes(NEIGHBOUR, (VERSIONS[0],), (Share(VERSIONS[0], 100),))
    first = next(rules)
    assert first is not None
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=[neighbour, first]) as gateway:
        eras = [Era(first, time.monotonic())]
        with Load(gateway) as load:
            load.go_on()
            for _ in range(CHANGES):
                routes = next(rules)
                eras.append(Era(routes, time.monotonic()))
                gateway.publish(neighbour, *([] if routes is None else [routes]))
                eras[-2].ended_s = time.monotonic()
                assert gateway.plane.connected()[0].error_message == ""
                load.go_on()
        assert gateway.plane.connected()[0].acknowledged_revision == gateway.revision
    assert load.failures == []
    assert set(load.neighbours) == {VERSIONS[0]}
    assert [answer for answer in load.answers if not any(era.allows(answer) for era in eras)] == []
    certain = sum(sum(era.touches(answer) for era in eras) == 1 for answer in load.answers)
    assert certain > len(load.answers) // 4
    assert {answer.version for answer in load.answers} >= {None, *VERSIONS}
    with capsys.disabled():
        print(
            f"\n{CHANGES} changes under load: {len(load.answers)} answers by rules of their time, {certain} of them "
            f"with but one set of rules that could be meant, {load.neighbours.total()} of a neighbour, 0 failures"
        )
