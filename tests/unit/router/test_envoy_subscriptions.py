"""The rules of xDS, one stream at a time, without a stream."""

from meshxds.envoy.config.core.v3 import base_pb2
from meshxds.envoy.service.discovery.v3 import discovery_pb2

from services.router.adapters.envoy.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSIONS,
    LISTENER,
    ROUTES,
    SCOPES,
    SECRETS,
    TYPES,
    ResourceSet,
    Snapshot,
    resource_set,
    serialised,
)
from services.router.adapters.envoy.subscriptions import RESPONSE_MAX_BYTES, Refusal, Subscriptions


def snapshot(routes: str = "1-a") -> Snapshot:
    others = {CLUSTER: "c", ENDPOINTS: "e", SECRETS: "t", EXTENSIONS: "x", LISTENER: "l", SCOPES: "s"}
    versions = {**others, ROUTES: routes}
    return {kind: ResourceSet(version, (serialised("only", version.encode()),)) for kind, version in versions.items()}


def parts(revision: int, **values: bytes) -> Snapshot:
    return {ROUTES: resource_set([serialised(name, value) for name, value in values.items()], revision=revision)}


def values(response: discovery_pb2.DiscoveryResponse) -> list[bytes]:
    return [item.value for item in response.resources]


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


def taken(now: Snapshot) -> Subscriptions:
    """An Envoy that has everything."""
    state, sent = subscribed(now)
    while sent:
        for response in sent.values():
            state.receive(answer(response))
        sent = {response.type_url: response for response in state.due(now)}
    return state


def test_only_what_changed_is_sent() -> None:
    (changed,) = taken(snapshot()).due(snapshot("2-b"))
    assert (changed.type_url, changed.version_info) == (ROUTES, "2-b")


def filters(**said: bytes) -> Snapshot:
    return {EXTENSIONS: resource_set([serialised(name, value) for name, value in said.items()])}


def test_revoked_keys_change_without_the_keys_that_sign() -> None:
    state = taken(filters(keys=b"1", revoked=b""))
    (response,) = state.due(filters(keys=b"1", revoked=b"k"))
    assert values(response) == [b"k"]


def test_a_key_set_that_is_refused_is_sent_once_and_keeps_no_revocation_from_an_envoy() -> None:
    state = taken(filters(keys=b"1", revoked=b""))
    wrong = filters(keys=b"bad", revoked=b"k")
    (first_one,) = state.due(wrong)
    assert values(first_one) == [b"bad"]
    state.receive(answer(first_one, version="", error="no such keys"))
    assert not state.answered(wrong[EXTENSIONS].version, EXTENSIONS)
    (other,) = state.due(wrong)
    assert values(other) == [b"k"]
    state.receive(answer(other))
    # Sent again it would be acknowledged, and not be in force.
    assert list(state.due(wrong)) == []
    assert state.error_message == "no such keys"
    assert state.answered(wrong[EXTENSIONS].version, EXTENSIONS)


def test_of_routes_what_changed_is_sent_alone() -> None:
    state = taken(parts(1, a=b"1", b=b"1", c=b"1"))
    now = parts(2, a=b"1", b=b"2", c=b"1", d=b"1")
    (response,) = state.due(now)
    assert values(response) == [b"2", b"1"]
    assert response.version_info == now[ROUTES].version
    state.receive(answer(response))
    (response,) = state.due(parts(3, a=b"1", b=b"2", c=b"1", d=b"1"))
    assert values(response) == []
    state.receive(answer(response))
    assert state.revision == 3


def test_the_next_response_waits_for_the_answer_to_the_last_and_holds_all_that_changed_meanwhile() -> None:
    state = taken(parts(1, a=b"1", b=b"1"))
    (first_change,) = state.due(parts(2, a=b"2", b=b"1"))
    now = parts(4, a=b"4", b=b"3")
    assert list(state.due(parts(3, a=b"2", b=b"3"))) == list(state.due(now)) == []
    state.receive(answer(first_change))
    (second_change,) = state.due(now)
    assert values(second_change) == [b"4", b"3"]


def test_while_something_is_lacking_the_version_says_so_and_another_stream_is_sent_it_all() -> None:
    now = parts(1, a=b"1", b=b"1")
    state = Subscriptions()
    state.receive(first(ROUTES, "", "a"))
    (response,) = state.due(now)
    assert values(response) == [b"1"]
    incomplete = response.version_info
    assert incomplete != now[ROUTES].version
    state.receive(answer(response, names=("a",)))
    assert list(state.due(now)) == []
    assert not state.answered(now[ROUTES].version)
    assert state.revision == 0
    # The stream breaks here.
    again = Subscriptions()
    again.receive(first(ROUTES, incomplete, "a", "b"))
    assert again.revision == 0
    (response,) = again.due(now)
    assert (len(response.resources), response.version_info) == (2, now[ROUTES].version)
    again.receive(answer(response, names=("a", "b")))
    assert (again.answered(now[ROUTES].version), again.revision) == (True, 1)


def test_much_is_sent_in_several_responses() -> None:
    large = bytes(RESPONSE_MAX_BYTES // 2)
    now = parts(1, a=large, b=large, c=b"1", d=bytes(2 * RESPONSE_MAX_BYTES))
    state = Subscriptions()
    state.receive(first(ROUTES))
    seen = []
    while responses := list(state.due(now)):
        (response,) = responses
        seen.append(([len(value) for value in values(response)], response.version_info == now[ROUTES].version))
        state.receive(answer(response))
    assert seen == [([len(large)] * 2, False), ([1], False), ([2 * RESPONSE_MAX_BYTES], True)]


def test_what_was_refused_is_sent_again_with_the_next_version() -> None:
    state = taken(parts(1, a=b"1", b=b"1"))
    (refused,) = state.due(parts(2, a=b"bad", b=b"1"))
    state.receive(answer(refused, version=parts(1, a=b"1", b=b"1")[ROUTES].version, error="bad"))
    assert list(state.due(parts(2, a=b"bad", b=b"1"))) == []
    (response,) = state.due(parts(3, a=b"1", b=b"3"))
    assert values(response) == [b"1", b"3"]


def test_an_envoy_that_dials_anew_says_what_it_has_and_is_sent_the_rest() -> None:
    state = Subscriptions()
    state.receive(first(ROUTES, "1-a", "only"))
    state.receive(first(CLUSTER, "old"))
    assert state.revision == 1
    assert [response.type_url for response in state.due(snapshot())] == [CLUSTER]


def test_a_refusal_is_told_and_not_sent_again() -> None:
    state = taken(snapshot())
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


def test_what_an_envoy_says_before_it_has_heard_the_last_response_is_no_answer_to_that() -> None:
    now = snapshot()
    state = Subscriptions()
    state.receive(first(ROUTES, "", "only"))
    (response,) = state.due(now)
    assert state.receive(first(ROUTES, "", "only", "more")) is None
    assert (state.answered("1-a"), list(state.due(now))) == (False, [])
    state.receive(answer(response, names=("only", "more")))
    assert state.answered("1-a")


def test_more_names_are_sent_and_fewer_are_not() -> None:
    sets = {**snapshot(), ENDPOINTS: ResourceSet("e", (serialised("a", b"1"), serialised("b", b"2")))}
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
    state = taken(snapshot())
    changed = {**snapshot(), CLUSTER: ResourceSet("c2", ())}
    responses = list(state.due(changed))
    assert [response.type_url for response in responses] == [CLUSTER, ENDPOINTS]
    changed = {**changed, LISTENER: ResourceSet("l2", ())}
    more = list(state.due(changed))
    assert [(response.type_url, len(response.resources)) for response in more] == [
        (LISTENER, 0),
        (SCOPES, 1),
        (ROUTES, 1),
    ]
    for response in (*responses, *more):
        state.receive(answer(response))
    assert list(state.due(changed)) == []


def test_other_types_are_passed_over() -> None:
    state = Subscriptions()
    assert state.receive(first("type.googleapis.com/envoy.service.runtime.v3.Runtime")) is None
    assert list(state.due(snapshot())) == []
