"""The rules of xDS, one stream at a time, without a stream."""

from meshxds.envoy.config.core.v3 import base_pb2
from meshxds.envoy.service.discovery.v3 import discovery_pb2

from services.router.adapters.envoy.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    TYPES,
    Resource,
    ResourceSet,
    Snapshot,
)
from services.router.adapters.envoy.subscriptions import Refusal, Subscriptions


def snapshot(routes: str = "1-a") -> Snapshot:
    versions = {CLUSTER: "c", ENDPOINTS: "e", LISTENER: "l", ROUTES: routes}
    return {kind: ResourceSet(version, (Resource("only", version.encode()),)) for kind, version in versions.items()}


def first(kind: str, version: str = "", *names: str) -> discovery_pb2.DiscoveryRequest:
    return discovery_pb2.DiscoveryRequest(
        type_url=kind, version_info=version, resource_names=names, node=base_pb2.Node(id="gateway-0")
    )


def answer(
    response: discovery_pb2.DiscoveryResponse,
    *,
    version: str | None = None,
    error: str = "",
    names: tuple[str, ...] = (),
) -> discovery_pb2.DiscoveryRequest:
    request = discovery_pb2.DiscoveryRequest(
        type_url=response.type_url,
        version_info=response.version_info if version is None else version,
        response_nonce=response.nonce,
        resource_names=names,
    )
    if error:
        request.error_detail.message = error
    return request


def subscribed(now: Snapshot) -> tuple[Subscriptions, dict[str, discovery_pb2.DiscoveryResponse]]:
    """An Envoy that has asked for everything and been sent it."""
    state = Subscriptions()
    for kind in TYPES:
        assert state.receive(first(kind)) is None
    return state, {response.type_url: response for response in state.due(now)}


def test_what_was_not_asked_for_is_not_sent() -> None:
    state = Subscriptions()
    assert list(state.due(snapshot())) == []
    state.receive(first(LISTENER))
    assert [response.type_url for response in state.due(snapshot())] == [LISTENER]
    assert state.gateway_id == "gateway-0"


def test_everything_is_sent_once_in_the_right_order_and_taken() -> None:
    state, sent = subscribed(snapshot())
    assert list(sent) == list(TYPES)
    assert state.revision == 0
    assert not state.answered("1-a")
    for response in sent.values():
        assert state.receive(answer(response)) is None
    assert list(state.due(snapshot())) == []
    assert (state.revision, state.error_message, state.answered("1-a")) == (1, "", True)


def test_only_what_changed_is_sent() -> None:
    state, _ = subscribed(snapshot())
    (changed,) = state.due(snapshot("2-b"))
    assert (changed.type_url, changed.version_info) == (ROUTES, "2-b")


def test_an_envoy_that_dials_anew_says_what_it_has_and_is_sent_the_rest() -> None:
    state = Subscriptions()
    state.receive(first(ROUTES, "1-a", "only"))
    state.receive(first(CLUSTER, "old"))
    assert state.revision == 1
    assert [response.type_url for response in state.due(snapshot())] == [CLUSTER]


def test_a_refusal_is_told_and_not_sent_again() -> None:
    state, sent = subscribed(snapshot())
    state.receive(answer(sent[ROUTES]))
    (changed,) = state.due(snapshot("2-b"))
    refusal = state.receive(answer(changed, version="1-a", error="no such cluster"))
    assert refusal == Refusal(ROUTES, "2-b", "no such cluster")
    assert (state.revision, state.error_message) == (1, "no such cluster")
    assert state.answered("2-b")
    assert list(state.due(snapshot("2-b"))) == []
    (next_one,) = state.due(snapshot("3-c"))
    assert not state.answered("3-c")
    state.receive(answer(next_one))
    assert (state.revision, state.error_message) == (3, "")


def test_a_refusal_of_one_type_is_not_forgiven_by_another() -> None:
    state, sent = subscribed(snapshot())
    state.receive(answer(sent[LISTENER], version="", error="bad filter"))
    state.receive(answer(sent[ROUTES]))
    assert state.error_message == "bad filter"
    assert state.answered("1-a")


def test_an_answer_to_what_was_overtaken_still_says_what_the_envoy_has() -> None:
    state, sent = subscribed(snapshot())
    (changed,) = state.due(snapshot("2-b"))
    assert state.receive(answer(sent[ROUTES])) is None
    assert state.revision == 1
    assert not state.answered("2-b")
    state.receive(answer(changed))
    assert state.revision == 2


def test_a_late_refusal_of_what_was_overtaken_is_no_refusal_of_the_newer() -> None:
    state, sent = subscribed(snapshot())
    list(state.due(snapshot("2-b")))
    assert state.receive(answer(sent[ROUTES], version="", error="no")) is None
    assert state.error_message == ""
    assert not state.answered("2-b")


def test_more_names_are_sent_and_fewer_are_not() -> None:
    sets = {**snapshot(), ENDPOINTS: ResourceSet("e", (Resource("a", b"1"), Resource("b", b"2")))}
    state = Subscriptions()
    state.receive(first(ENDPOINTS, "", "a"))
    (response,) = state.due(sets)
    assert len(response.resources) == 1
    state.receive(answer(response, names=("a", "b")))
    (response,) = state.due(sets)
    assert len(response.resources) == 2
    state.receive(answer(response, names=("b",)))
    assert list(state.due(sets)) == []


def test_a_changed_cluster_or_listener_brings_along_what_it_warms_up_with() -> None:
    state, _ = subscribed(snapshot())
    changed = {**snapshot(), CLUSTER: ResourceSet("c2", ())}
    assert [response.type_url for response in state.due(changed)] == [CLUSTER, ENDPOINTS]
    changed = {**changed, LISTENER: ResourceSet("l2", ())}
    assert [response.type_url for response in state.due(changed)] == [LISTENER, ROUTES]


def test_other_types_are_passed_over() -> None:
    state = Subscriptions()
    assert state.receive(first("type.googleapis.com/envoy.service.runtime.v3.Runtime")) is None
    assert list(state.due(snapshot())) == []
