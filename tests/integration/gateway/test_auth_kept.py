"""Keys in a real gateway behind its keeper: revoked while it serves, and everything around it dead."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

from services.router.domain.access import Callers
from tests.support.envoy_gateway import TIMEOUT_S, running_gateway, split
from tests.support.gateway_keys import Signer, bearer, key_set
from tests.support.guarded_gateway import GuardedGateway
from tests.support.key_load import KeyLoad
from tests.support.waiting import until

DIGITS = [split("digits", {"v1.0.0": 100})]
MANY = 10_000


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GuardedGateway]:
    with running_gateway(tmp_path, publish=DIGITS, kind=GuardedGateway) as running:
        yield running


def status_of(gateway: GuardedGateway, key: str | None) -> int:
    headers = bearer(key) if key is not None else {}
    return gateway.rest("POST", "/v1/models/digits/predict", json={}, headers=headers).status_code


def extensions_in_force(gateway: GuardedGateway) -> dict[str, int]:
    """How often each of the filters was made anew."""
    counts = gateway.stats("extension_config_discovery.http_filter.*config_reload$")
    return {".".join(name.split(".")[2:4]): count for name, count in counts.items()}


def is_kept(gateway: GuardedGateway) -> bool:
    """Whether all that was published and admitted is on disk."""
    kept = gateway.kept_versions()
    wanted = gateway.do(_admitted_version(gateway))
    return len(kept) == 6 and kept.get("TypedExtensionConfig") == wanted


async def _admitted_version(gateway: GuardedGateway) -> str:
    return gateway.plane.admission_version


def test_a_revoked_key_is_refused_within_a_moment_and_no_other_request_fails(
    gateway: GuardedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    signer = gateway.signer
    leaver, other = signer.key("leaver"), signer.key("other")
    with KeyLoad(gateway, leaver) as leaving, KeyLoad(gateway, other) as staying:
        leaving.goes_on()
        staying.goes_on()
        before, listeners = extensions_in_force(gateway), gateway.listeners()
        began_s = time.monotonic()
        gateway.revoke("leaver")
        in_force_s = time.monotonic()
        leaving.goes_on()
        staying.goes_on()
    assert leaving.statuses(since_s=in_force_s) == {401}
    assert {one.status for one in leaving.asked if one.ended_s < began_s} == {200}
    assert all("revoked" in one.said for one in leaving.asked if one.status != 200)
    assert staying.statuses() == {200}
    # The table of revoked keys was made anew, and nothing else: what was verified is remembered.
    after = extensions_in_force(gateway)
    assert after == {**before, "infermesh.admission": before["infermesh.admission"] + 1}
    assert gateway.listeners() == listeners
    with capsys.disabled():
        print(f"\na revocation is in force at the gateway after {(in_force_s - began_s) * 1000:.0f} ms")


def test_ten_thousand_revoked_keys_are_refused_and_one_more_is_as_soon(
    gateway: GuardedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    revoked = [f"{number:026d}" for number in range(MANY)]
    gateway.revoke(*revoked)
    until(lambda: is_kept(gateway), what="it is on disk")
    size = gateway.kept_file.stat().st_size
    with KeyLoad(gateway, gateway.signer.key("other")) as staying:
        staying.goes_on()
        began_s = time.monotonic()
        gateway.revoke(*revoked, "leaver")
        took_s = time.monotonic() - began_s
        staying.goes_on()
    assert staying.statuses() == {200}
    for key_id in (revoked[0], revoked[-1], "leaver"):
        assert status_of(gateway, gateway.signer.key(key_id)) == 401
    longest_s = max(one.ended_s - one.began_s for one in staying.asked)
    with capsys.disabled():
        print(
            f"\none key more than {MANY} revoked ones is in force after {took_s * 1000:.0f} ms; the longest request "
            f"meanwhile took {longest_s * 1000:.0f} ms; the keeper's file has {size / 1e6:.1f} MB"
        )


def test_other_signing_keys_are_taken_without_a_failure(gateway: GuardedGateway) -> None:
    new = Signer("key-2")
    old_key, new_key = gateway.signer.key("old"), new.key("new")
    assert status_of(gateway, new_key) == 401
    with KeyLoad(gateway, old_key) as load:
        load.goes_on()
        gateway.admit(key_set=key_set(gateway.signer, new))
        assert status_of(gateway, new_key) == 200
        load.goes_on()
        for number in range(20):
            gateway.revoke(f"gone-{number}")
        load.goes_on()
        assert load.statuses() == {200}
        gateway.admit(key_set=new.key_set)
        withdrawn_s = time.monotonic()
        load.goes_on()
    assert load.statuses(since_s=withdrawn_s) == {401}
    assert status_of(gateway, new_key) == 200


def test_a_stream_that_is_open_does_not_notice_a_revocation_of_others(gateway: GuardedGateway) -> None:
    asked = prediction_pb2.PredictRequest(model_name="digits")

    def requests() -> Iterator[prediction_pb2.PredictRequest]:
        yield asked
        gateway.revoke("somebody")
        yield asked

    with gateway.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        metadata = tuple(bearer(gateway.signer.key("k")).items())
        assert len(list(stub.StreamPredict(requests(), metadata=metadata, timeout=TIMEOUT_S))) == 2


@pytest.mark.logs_errors
def test_a_key_set_that_envoy_refuses_changes_nothing_and_revocations_go_on(gateway: GuardedGateway) -> None:
    known = gateway.callers
    assert known is not None
    gateway.do(gateway.plane.admit(Callers("2", '{"keys": [{"kty": "EC"}]}', ("leaver",))))
    assert gateway.do(gateway.plane.admitted()) == []
    assert "jwks" in gateway.plane.connected()[0].error_message
    assert status_of(gateway, gateway.signer.key("other")) == 200
    assert status_of(gateway, gateway.signer.key("leaver")) == 401
    gateway.admit(revoked=[])
    assert gateway.plane.connected()[0].error_message == ""
    assert status_of(gateway, gateway.signer.key("leaver")) == 200


def test_with_everything_around_it_dead_a_gateway_tells_callers_apart_and_so_does_one_that_starts(
    gateway: GuardedGateway,
) -> None:
    gateway.revoke("leaver")
    until(lambda: is_kept(gateway), what="it is on disk")
    signer = gateway.signer
    good, bad = signer.key("other"), (signer.key("leaver"), Signer("key-1").key("other"), "a.b.c", None)
    gateway.do(gateway.stop_router())
    gateway.do(gateway.stop_services())
    assert [status_of(gateway, key) for key in (good, *bad)] == [200, 401, 401, 401, 401]
    gateway.do(gateway.kill_envoy())
    gateway.do(gateway.start_envoy())
    assert [status_of(gateway, key) for key in (good, *bad)] == [200, 401, 401, 401, 401]
    assert gateway.rest("GET", "/health").status_code == 200
    gateway.do(gateway.kill_keeper())
    assert [status_of(gateway, key) for key in (good, *bad)] == [200, 401, 401, 401, 401]
    gateway.do(gateway.kill_envoy())
    gateway.do(gateway.start_keeper())
    gateway.do(gateway.start_envoy())
    assert [status_of(gateway, key) for key in (good, *bad)] == [200, 401, 401, 401, 401]
    listeners, before = gateway.listeners(), extensions_in_force(gateway)
    with KeyLoad(gateway, good) as load:
        load.goes_on()
        gateway.do(gateway.restart_router())
        until(lambda: len(gateway.plane.connected()) == 1, what="the gateway is the router's again")
        gateway.revision -= 1
        gateway.publish(*DIGITS)
        load.goes_on()
        assert (gateway.listeners(), extensions_in_force(gateway)) == (listeners, before)
        gateway.revoke("leaver", "another")
        assert status_of(gateway, signer.key("another")) == 401
        load.goes_on()
    assert load.statuses() == {200}


def test_a_router_that_does_not_know_callers_yet_changes_nobodys_and_opens_no_new_gateway(tmp_path: Path) -> None:
    with running_gateway(tmp_path, publish=None, kind=UnknownCallers) as gateway:
        gateway.publish(*DIGITS)
        until(lambda: gateway.listeners()["listener_manager.listener_added"] == 1, what="Envoy has its listener")
        with pytest.raises(httpx.ConnectError):
            gateway.rest("GET", "/health")
        gateway.callers = Callers("1", gateway.signer.key_set)
        gateway.admit(revoked=["leaver"])
        gateway.do(gateway.envoy.wait_ready())
        assert status_of(gateway, gateway.signer.key("k")) == 200
        gateway.callers = None
        gateway.do(gateway.restart_router())
        gateway.publish(*DIGITS)
        assert status_of(gateway, gateway.signer.key("leaver")) == 401
        assert status_of(gateway, None) == 401


class UnknownCallers(GuardedGateway):
    """Its router has not heard of the registry."""

    def __init__(self, *told: object) -> None:
        super().__init__(*told)  # type: ignore[arg-type]
        self.callers = None


def test_it_can_be_turned_on_under_load(gateway: GuardedGateway) -> None:
    gateway.do(gateway.restart_router(authentication=False))
    gateway.publish(*DIGITS)
    until(lambda: status_of(gateway, None) == 200, what="everybody gets in")
    with KeyLoad(gateway, gateway.signer.key("k")) as load:
        load.goes_on()
        gateway.do(gateway.restart_router())
        gateway.publish(*DIGITS)
        until(lambda: status_of(gateway, None) == 401, what="nobody gets in without a key")
        load.goes_on()
    assert load.statuses() == {200}
