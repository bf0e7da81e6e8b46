"""Every public method over gRPC, asked with messages that nobody would send: known refusals, in time, and no more."""

import secrets
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

from services.common.access.policy import rule_of
from services.common.access.rule import Access
from services.router.adapters.envoy.public import CONTROL_SERVICES, PREDICTION_SERVICES
from tests.e2e.driving import MODEL, Rest, registration
from tests.support.every_call import Call, Names, every_call
from tests.support.fuzz_grpc import RawCaller
from tests.support.fuzz_messages import mangled
from tests.support.mesh import Mesh

SEED = 20260205
EXAMPLES = 10
"""Messages to each method: some 1,600 in all."""
PUBLIC = tuple(service.full_name for service in (*CONTROL_SERVICES, *PREDICTION_SERVICES))
LEFT_OUT = {
    "CreateSilence": "a silence over everything would hide what other tests of this mesh wait for",
}
"""Methods that are not called, and why."""


@pytest.fixture(scope="module")
def caller(mesh: Mesh) -> Iterator[RawCaller]:
    made = RawCaller(mesh.gateway, mesh.key)
    yield made
    made.close()


@pytest.fixture(scope="module")
def own(mesh: Mesh) -> Names:
    """A model and a team that may be changed in any way."""
    name = f"fuzzed-{secrets.token_hex(4)}"
    rest = Rest(mesh.gateway, mesh.key)
    rest.ok("POST", "/v1/models", json=registration(name, "v1.0.0"))
    rest.ok("POST", "/v1/teams", json={"name": name})
    rest.close()
    return Names(model=name, team=name)


def faults(caller: RawCaller, call: Call, names: Names, *, examples: int) -> list[str]:
    """What was wrong with the answers to some requests."""
    found: list[str] = []

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=examples,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(mangled(call.request(names)))
    def send(wire: bytes) -> None:
        found.extend(caller.faults(call, wire))

    send()
    return found


@pytest.mark.parametrize("service", PUBLIC)
def test_whatever_is_sent_is_answered_by_a_known_refusal_in_time(
    mesh: Mesh, caller: RawCaller, own: Names, service: str
) -> None:
    found: list[str] = []
    refused = caller.codes.get("INVALID_ARGUMENT", 0)
    for call in every_call(service):
        if call.method.rpartition("/")[2] in LEFT_OUT:
            continue
        reads = rule_of(call.method).access in (Access.READ, Access.CALL)
        names = Names(model=MODEL, team=own.team) if reads else own
        # Of an endless stream it is the beginning that takes the input.
        found.extend(faults(caller, call, names, examples=4 if call.endless else EXAMPLES))
    assert found == []
    assert caller.codes.get("INVALID_ARGUMENT", 0) > refused, "what is mangled must be refused somewhere"


def test_the_mesh_is_well_afterwards(mesh: Mesh, caller: RawCaller) -> None:
    assert sum(caller.codes.values()) > 1000
    assert mesh.complete()
    rest = Rest(mesh.gateway, mesh.key)
    sample = mesh.samples[0]
    answer = rest.predict({"instances": [sample["instance"]], "version": "v1.0.0"})
    rest.close()
    assert answer["model_version"] == "v1.0.0"
