"""Several batchers behind a real gateway: a version's requests meet at one of them while they fit, and one that comes
or goes leaves the others theirs and costs nobody an answer."""

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

from services.router.domain.routing import ModelRoutes
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from tests.support.envoy_gateway import TIMEOUT_S, Gateway, running_gateway, split
from tests.support.waiting import until

MODELS = tuple(f"model-{place}" for place in range(20))
VERSIONS = ("v1.0.0", "v1.1.0")
BATCHERS = 3

Call = Callable[[], object]


def all_to(version: str) -> list[ModelRoutes]:
    return [split(model, {version: 100}) for model in MODELS]


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=all_to(VERSIONS[0])) as running:
        yield running


@pytest.fixture
def processes(gateway: Gateway) -> Mapping[int, Process]:
    """Three batchers, by their ports."""
    others = free_ports(BATCHERS - 1)
    return {
        gateway.batcher_port: gateway.batcher,
        **{port: gateway.do(gateway.start_part(gateway.batcher_part(port))) for port in others},
    }


@pytest.fixture
def ports(gateway: Gateway, processes: Mapping[int, Process]) -> list[int]:
    """The gateway sends to all of them."""
    found = list(processes)
    use(gateway, found)
    return found


def use(gateway: Gateway, ports: list[int]) -> None:
    gateway.do(gateway.replace_batchers(ports))

    def taken() -> bool:
        return sorted(asked(gateway)) == sorted(ports) and healthy(gateway) == len(ports)

    until(taken, what="the gateway knows its batchers")


def healthy(gateway: Gateway) -> int:
    name = "cluster.batcher.membership_healthy"
    return gateway.stats(name)[name]


def asked(gateway: Gateway) -> dict[int, int]:
    """How many requests each batcher has been sent, by its port."""
    answer = httpx.get(
        f"http://127.0.0.1:{gateway.admin_port}/clusters?format=json", timeout=TIMEOUT_S, trust_env=False
    )
    (cluster,) = [one for one in answer.json()["cluster_statuses"] if one["name"] == "batcher"]
    return {
        host["address"]["socket_address"]["port_value"]: next(
            int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_total"
        )
        for host in cluster.get("host_statuses", [])
    }


def places(gateway: Gateway, call: Call, *, times: int = 3) -> dict[int, int]:
    """Which batchers a call goes to, and how often, when it is made one at a time."""
    before = asked(gateway)
    for _ in range(times):
        call()
    found = {port: number - before.get(port, 0) for port, number in asked(gateway).items()}
    return {port: number for port, number in found.items() if number}


class Caller:
    """Predicts over gRPC."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def __call__(self, model: str, *metadata: tuple[str, str], named: bool = True) -> dict[str, object]:
        request = prediction_pb2.PredictRequest(model_name=model)
        told = (("x-model-name", model), *metadata) if named else metadata
        return dict(json.loads(self._stub.Predict(request, metadata=told, timeout=TIMEOUT_S).request_id))

    def stream(self, model: str) -> int:
        request = prediction_pb2.PredictRequest(model_name=model)
        return len(list(self._stub.StreamPredict(iter([request]), timeout=TIMEOUT_S)))


@pytest.fixture
def predict(gateway: Gateway) -> Iterator[Caller]:
    with gateway.channel() as channel:
        yield Caller(channel)


def one_each(gateway: Gateway, predict: Caller, version: str) -> Mapping[str, int]:
    """The one batcher of each model in this version."""
    gateway.publish(*all_to(version))
    found = {model: places(gateway, lambda model=model: predict(model)) for model in MODELS}  # type: ignore[misc]
    assert {model: len(ports) for model, ports in found.items()} == dict.fromkeys(MODELS, 1)
    return {model: next(iter(ports)) for model, ports in found.items()}


def ways(gateway: Gateway, predict: Caller, model: str) -> tuple[Sequence[Call], Sequence[Call]]:
    """Predictions of a model in the first version, as the caller wants it, and of one that the rules choose."""
    wanted = {"x-model-version": VERSIONS[0]}
    v1, v2 = f"/v1/models/{model}/predict", f"/v2/models/{model}/infer"
    in_path = f"/v2/models/{model}/versions/{VERSIONS[0]}/infer"

    def post(path: str, headers: Mapping[str, str]) -> None:
        assert gateway.rest("POST", path, json={}, headers=dict(headers)).status_code == 200

    by_caller = [
        lambda: predict(model, *wanted.items()),
        lambda: post(v1, wanted),
        lambda: post(v2, wanted),
        lambda: post(in_path, {}),
    ]
    by_rules = [
        lambda: predict(model),
        lambda: predict(model, named=False),
        lambda: post(v1, {}),
        lambda: post(v2, {}),
    ]
    return by_caller, by_rules


def test_a_version_of_a_model_is_at_one_batcher_and_all_batchers_have_some(
    gateway: Gateway, ports: list[int], predict: Caller
) -> None:
    first, second = (one_each(gateway, predict, version) for version in VERSIONS)
    assert set(first.values()) == set(second.values()) == set(ports)
    # Versions are keys of their own.
    assert [model for model in MODELS if first[model] != second[model]]
    assert one_each(gateway, predict, VERSIONS[0]) == first


def test_it_does_not_matter_how_a_request_says_its_model_and_who_chose_its_version(
    gateway: Gateway, ports: list[int], predict: Caller
) -> None:
    chosen = one_each(gateway, predict, VERSIONS[0])
    # From here on the rules give the other one.
    other = one_each(gateway, predict, VERSIONS[1])
    assert chosen != other
    for model in MODELS[:8]:
        by_caller, by_rules = ways(gateway, predict, model)
        assert [list(places(gateway, call, times=1)) for call in by_caller] == [[chosen[model]]] * len(by_caller)
        assert [list(places(gateway, call, times=1)) for call in by_rules] == [[other[model]]] * len(by_rules)


def test_a_batcher_that_goes_moves_its_own_keys_and_gets_them_back(
    gateway: Gateway, ports: list[int], predict: Caller
) -> None:
    def keys() -> Mapping[tuple[str, str], int]:
        return {
            (model, version): port
            for version in VERSIONS
            for model, port in one_each(gateway, predict, version).items()
        }

    before = keys()
    gone, *left = ports
    use(gateway, left)
    after = keys()
    assert set(after.values()) == set(left)
    # Maglev moves 0.3 % of the keys of others as well, which is none of these but for bad luck with the ports.
    assert len([key for key, port in before.items() if port not in (gone, after[key])]) <= 2
    use(gateway, [*left, gone])
    assert keys() == before


def test_a_model_that_is_too_much_for_its_batcher_spreads(gateway: Gateway, ports: list[int], predict: Caller) -> None:
    at_once = 30
    before = asked(gateway)
    assert len(before) == len(ports)
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda _: predict(MODELS[0], ("x-test-sleep", "2")), range(at_once)))
    spread = sorted(number - before[port] for port, number in asked(gateway).items())
    assert sum(spread) == at_once
    # Half of all is 150 % of an even share among three, rounded up as Envoy does.
    assert spread[-1] <= at_once / 2 + 1, spread
    assert spread[0] > 0 or spread[1] >= at_once / 2 - 1, spread


def test_requests_without_a_model_or_a_version_go_anywhere(gateway: Gateway, ports: list[int], predict: Caller) -> None:
    calls: dict[str, Call] = {
        "streams": lambda: predict.stream(MODELS[0]),
        "models that nobody knows": lambda: predict("nobody-knows-it"),
        "a version without a name": lambda: predict(MODELS[0], ("x-model-version", "v9.9.9"), named=False),
        "a name that no header may hold": lambda: predict("is\nnone", named=False),
    }
    found = {what: places(gateway, call, times=24) for what, call in calls.items()}
    assert {what: sum(numbers.values()) for what, numbers in found.items()} == dict.fromkeys(calls, 24)
    assert len(found["streams"]) == BATCHERS


SLEEP = "0.2"
"""Seconds that an answer takes. What has been answered in part when its batcher dies cannot be begun anew; the shorter
that is beside the wait for it, the surer is it that no request is just there."""


class Load:
    """Callers of all models, who predict without pause until they are told to stop."""

    CALLERS = 16

    def __init__(self, predict: Caller) -> None:
        self._predict = predict
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(place,)) for place in range(self.CALLERS)]
        self.answered: Counter[int] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def until_more(self, number: int) -> None:
        """Every caller has got as many more answers."""
        before = Counter(self.answered)

        def enough() -> bool:
            return all(self.answered[place] >= before[place] + number for place in range(self.CALLERS))

        until(lambda: self.failures or enough(), what="predictions go on")
        assert self.failures == []

    def _run(self, place: int) -> None:
        while not self._stop.is_set():
            try:
                self._predict(MODELS[place], ("x-test-sleep", SLEEP))
            except grpc.RpcError as error:
                self.failures.append(f"{error.code()}: {error.details()}")
                return
            self.answered[place] += 1


@pytest.mark.usefixtures("ports")
def test_a_batcher_may_be_killed_under_load_and_come_back(gateway: Gateway, predict: Caller) -> None:
    with Load(predict) as load:
        load.until_more(2)
        os.kill(gateway.batcher.pid, signal.SIGKILL)
        load.until_more(8)
        until(lambda: healthy(gateway) == BATCHERS - 1, what="the gateway notices")
        gateway.do(gateway.batcher.stop())
        gateway.batcher = gateway.do(gateway.start_part(gateway.batcher_part()))
        before = asked(gateway)[gateway.batcher_port]
        until(lambda: asked(gateway)[gateway.batcher_port] > before + 20, what="it has its share again")
        load.until_more(2)
    assert load.failures == []


def test_a_batcher_that_is_added_under_load_takes_its_share(
    gateway: Gateway, ports: list[int], predict: Caller
) -> None:
    use(gateway, ports[:2])
    with Load(predict) as load:
        load.until_more(2)
        use(gateway, ports)
        until(lambda: asked(gateway)[ports[2]] > 20, what="the third is asked")
        load.until_more(2)
    assert load.failures == []


@pytest.mark.parametrize("batchers", [2, 3])
def test_all_that_a_batcher_had_in_hand_when_it_died_is_begun_anew(
    gateway: Gateway, ports: list[int], processes: Mapping[int, Process], predict: Caller, batchers: int
) -> None:
    """More at once than a fifth of the load: with two batchers the one that dies may have three quarters of it."""
    use(gateway, ports[:batchers])
    at_once = 200
    active = "cluster.batcher.upstream_rq_active"
    with ThreadPoolExecutor(at_once) as pool:
        (busiest,) = places(gateway, lambda: predict(MODELS[0]), times=1)
        calls = [pool.submit(predict, MODELS[0], ("x-test-sleep", "3")) for _ in range(at_once)]
        until(lambda: gateway.stats(active)[active] == at_once, what="all are under way")
        os.kill(processes[busiest].pid, signal.SIGKILL)
        assert len([call.result() for call in calls]) == at_once
    retried = "cluster.batcher.upstream_rq_retry"
    assert gateway.stats(f"{retried}$")[retried] >= at_once // 4
