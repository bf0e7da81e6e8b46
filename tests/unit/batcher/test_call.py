"""What a request says in its headers, and the id by which it is known."""

from collections.abc import Mapping

import pytest

from services.batcher.domain.priority import Priority
from services.batcher.faces.call import KIND_BATCH, KIND_CALLER, KIND_RETRY, KIND_SHADOW, Call, new_request_id
from services.batcher.faces.caller import Callers
from services.common.errors import MeshError, Reason


def call(headers: Mapping[str, bytes] | None = None, *, item: bool = False) -> Call:
    named = {name.encode(): value for name, value in (headers or {}).items()}
    return Call(named, arrived_s=0.0, caller=Callers().of(named, 0.0), item=item)


def test_without_headers_nothing_is_known() -> None:
    bare = call()
    assert (bare.routed_version, bare.user, bare.team, bare.kind) == ("", "", "", KIND_CALLER)
    assert bare.grpc_timeout_s() is None


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"x-model-version": b"v2.0.0", "x-route-version": b"v1.0.0"}, "v2.0.0"),
        ({"x-route-version": b"v1.0.0"}, "v1.0.0"),
        ({"x-model-version": b"", "x-route-version": b"v1.0.0"}, "v1.0.0"),
        ({"x-model-version": b"\xff"}, "ÿ"),
    ],
)
def test_the_callers_version_comes_before_the_gateways(headers: dict[str, bytes], version: str) -> None:
    assert call(headers).routed_version == version


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"x-mesh-shadow": b"1"}, KIND_SHADOW),
        ({"x-mesh-shadow": b"0"}, KIND_CALLER),
        ({"x-priority": b"background"}, KIND_BATCH),
        ({"x-priority": b"normal"}, KIND_CALLER),
        ({"x-priority": b""}, KIND_CALLER),
        ({"x-priority": b"background", "x-mesh-shadow": b"1"}, KIND_BATCH),
        ({"x-envoy-attempt-count": b"1"}, KIND_CALLER),
        ({"x-envoy-attempt-count": b"2"}, KIND_RETRY),
        ({"x-envoy-attempt-count": b"13"}, KIND_RETRY),
        ({"x-envoy-attempt-count": b"2", "x-mesh-shadow": b"1"}, KIND_SHADOW),
        ({"x-envoy-attempt-count": b"2", "x-priority": b"background"}, KIND_BATCH),
    ],
)
def test_copies_retries_and_rows_of_batch_jobs_are_told_apart(headers: dict[str, bytes], kind: int) -> None:
    assert call(headers).kind == kind


@pytest.mark.parametrize(
    ("headers", "priority"),
    [
        ({}, Priority.CALLER),
        ({"x-priority": b"normal"}, Priority.CALLER),
        ({"x-priority": b""}, Priority.CALLER),
        ({"x-priority": b"background"}, Priority.BACKGROUND),
        ({"x-priority": b"normal", "x-mesh-shadow": b"1"}, Priority.SHADOW),
    ],
)
def test_a_priority_that_is_stated_counts(headers: dict[str, bytes], priority: Priority) -> None:
    assert call(headers).priority is priority


@pytest.mark.parametrize("stated", [b"urgent", b"high", b"Background", b"normal, background", b"1", b"\xff"])
def test_a_priority_that_is_none_is_refused_and_logged_as_a_callers(stated: bytes) -> None:
    wrong = call({"x-priority": stated})
    with pytest.raises(MeshError, match=r"x-priority is '.*'; allowed: .* normal .* background") as caught:
        _ = wrong.priority
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.violations[0].field == "x-priority"
    assert stated.decode("latin-1") in caught.value.message
    assert wrong.kind == KIND_CALLER


def test_a_time_limit_is_the_calls_and_not_that_of_each_item_of_a_stream() -> None:
    assert call({"grpc-timeout": b"250m"}).grpc_timeout_s() == 0.25
    assert call({"grpc-timeout": b"250m"}, item=True).grpc_timeout_s() is None
    with pytest.raises(MeshError) as caught:
        call({"grpc-timeout": b"soon"}).grpc_timeout_s()
    assert caught.value.reason is Reason.MALFORMED_BODY


def test_an_id_is_the_bodys_else_the_headers_else_new() -> None:
    assert call({"x-request-id": b"header"}).name_request("body") == "body"
    assert call({"x-request-id": b"header"}).name_request("") == "header"
    made = call().name_request("")
    assert made.startswith("req_")
    assert call({"x-request-id": b"header"}, item=True).name_request("") not in ("header", made)


def test_the_id_is_kept_with_the_call() -> None:
    named = call()
    assert named.request_id == ""
    assert named.name_request("mine") == named.request_id == "mine"


@pytest.mark.parametrize("stated", ["x" * 129, "é", "a\nb", "a\tb", "\x7f", "\0"])
@pytest.mark.parametrize("in_body", [True, False])
def test_an_id_that_logs_could_not_hold_is_refused_wherever_it_is_stated(stated: str, in_body: bool) -> None:
    named = call() if in_body else call({"x-request-id": stated.encode("latin-1")})
    with pytest.raises(MeshError) as caught:
        named.name_request(stated if in_body else "")
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.violations[0].field == "request_id"


@pytest.mark.parametrize("stated", ["x" * 128, " ", "a b/c:~"])
def test_an_id_of_printable_letters_up_to_the_bound_is_kept(stated: str) -> None:
    assert call().name_request(stated) == stated


def test_new_ids_differ() -> None:
    made = [new_request_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(each.isascii() and len(each) <= 128 for each in made)
