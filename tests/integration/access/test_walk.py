"""Every method of every service, called directly by every kind of caller, with the headers that the gateway sets."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from infermesh.monitor.v1 import monitor_service_pb2

from services.common.access.decide import Facts, decide
from services.common.access.policy import rule_of
from services.common.access.roles import Role
from services.common.errors import Reason
from services.common.grpc.identity import Identity
from tests.integration.access.mesh import (
    ABSENT,
    CALLERS,
    HIDDEN,
    LENT,
    NOBODYS,
    OWN,
    SERVICES,
    STANDINGS,
    Answer,
    Mesh,
    make_alert,
    make_job,
    make_key,
    make_schedule,
)
from tests.support.every_call import Call, Names, every_call
from tests.support.registry_team import member

pytestmark = pytest.mark.timeout(180)

CALLS = every_call(*(service for services in SERVICES.values() for service in services))
REFUSALS = {
    reason.value
    for reason in (Reason.UNAUTHENTICATED, Reason.PERMISSION_DENIED, Reason.MODEL_NOT_FOUND, Reason.TEAM_NOT_FOUND)
}
TEAM_OF = {OWN: "red", LENT: "blue", HIDDEN: "blue", ABSENT: "blau", NOBODYS: "red"}
DESTRUCTIVE = frozenset(
    {
        "CollectGarbage",
        "CreateOperatorKey",
        "DeleteMember",
        "DeleteModel",
        "DeleteModelVersion",
        "DeleteTeam",
        "RevokeApiKey",
        "ShareModel",
        "TransferModel",
        "UnshareModel",
        "UpdateTeam",
    }
)
"""Not made by who may: the rest of the walk needs what they take away. Who may not is refused them like any other."""
FILTERS = frozenset({"WatchChanges"})
"""The model only filters, and nothing of a hidden one is as nothing of one that there is not."""
BY_MEMBERSHIP = frozenset({"ExchangeToken"})
"""The service looks whether the caller is a user, and a member of the team."""
_TOGETHER = 24
"""Calls in flight at one time."""


@dataclass(frozen=True)
class Step:
    """One call of the walk."""

    call: Call
    caller: str
    model: str

    @property
    def names(self) -> Names:
        return Names(model=self.model, team=TEAM_OF[self.model])

    @property
    def expected(self) -> str:
        """The reason of the refusal, "" where the caller is let through."""
        rule = rule_of(self.call.method)
        facts = Facts(
            model=self.model if rule.model and self.call.descriptor.name not in FILTERS else "",
            standing=STANDINGS[self.model],
            team=TEAM_OF[self.model] if rule.team else "",
        )
        error = decide(rule, CALLERS[self.caller], facts)
        return error.reason.value if error is not None else ""


def _steps() -> list[Step]:
    steps = [Step(call, caller, model) for call in CALLS for caller in CALLERS for model in STANDINGS]
    return [step for step in steps if step.expected or step.call.descriptor.name not in DESTRUCTIVE]


def _wrong(step: Step, answer: Answer) -> str:
    """What is wrong with an answer; "" for nothing."""
    told = f"{step.call.method} by {step.caller} of {step.model}: {answer.code} {answer.reason} {answer.message}"
    if answer.code in {"UNKNOWN", "INTERNAL"}:
        return f"it broke: {told}"
    if answer.code in {"DEADLINE_EXCEEDED", "UNAVAILABLE"} and not answer.reason and not step.call.endless:
        return f"it hung, or was gone: {told}"
    if step.expected:
        return "" if answer.reason == step.expected else f"not refused with {step.expected}: {told}"
    if step.call.descriptor.name in BY_MEMBERSHIP:
        return "" if answer.reason in {Reason.TEAM_NOT_FOUND, Reason.UNAUTHENTICATED} else f"let in: {told}"
    if step.model == ABSENT and answer.reason == Reason.TEAM_NOT_FOUND:
        return ""  # an operator sees every team, and there is none
    return f"refused: {told}" if answer.reason in REFUSALS else ""


async def test_who_may_is_let_through_and_who_may_not_is_refused(mesh: Mesh) -> None:
    gate = asyncio.Semaphore(_TOGETHER)

    async def walk(step: Step) -> str:
        async with gate:
            timeout_s = 1.0 if step.call.endless and not step.expected else 30.0
            return _wrong(step, await mesh.ask(step.call, step.names, CALLERS[step.caller], timeout_s=timeout_s))

    steps = _steps()
    assert len(steps) > 5000
    wrong = sorted(filter(None, await asyncio.gather(*map(walk, steps))))
    assert not wrong, f"{len(wrong)} of {len(steps)}:\n" + "\n".join(wrong[:40])


async def test_nobody_is_told_the_same_of_everything(mesh: Mesh) -> None:
    """Without a credential no answer tells what there is."""
    for call in CALLS:
        if rule_of(call.method).role is Role.ANONYMOUS or rule_of(call.method).internal_only:
            continue
        of_one = await mesh.ask(call, Names(model=OWN, team="red"), CALLERS["nobody"])
        of_none = await mesh.ask(call, Names(model=ABSENT, team="abc"), CALLERS["nobody"])
        assert of_one.reason == Reason.UNAUTHENTICATED.value, call.method
        assert of_one == of_none, call.method


@pytest.mark.parametrize("role", ["viewer", "deployer", "admin"])
async def test_another_teams_model_answers_as_one_that_there_is_not(mesh: Mesh, role: str) -> None:
    caller = member("red", role)
    compared = 0
    for call in CALLS:
        rule = rule_of(call.method)
        if not call.by_name or not rule.model:
            continue
        hidden = await mesh.ask(call, Names(model=HIDDEN, team="red"), caller)
        absent = await mesh.ask(call, Names(model=ABSENT, team="red"), caller)
        assert hidden.renamed(HIDDEN, ABSENT) == absent, call.method
        assert hidden.reason in REFUSALS or call.descriptor.name in FILTERS, call.method
        compared += 1
    assert compared > 60


@pytest.mark.parametrize("role", ["viewer", "admin"])
async def test_another_team_answers_as_one_that_there_is_not(mesh: Mesh, role: str) -> None:
    for call in CALLS:
        if not rule_of(call.method).team:
            continue
        hidden = await mesh.ask(call, Names(model=OWN, team="blue"), member("red", role))
        absent = await mesh.ask(call, Names(model=OWN, team="blau"), member("red", role))
        assert hidden.renamed("blue", "blau") == absent, call.method
        assert hidden.reason in REFUSALS, call.method


async def test_another_teams_things_answer_by_their_ids_as_things_that_there_are_not(
    mesh: Mesh, tmp_path: Path
) -> None:
    blue, red = member("blue", "admin"), member("red", "admin")
    await make_alert(mesh, HIDDEN)
    job, key = await make_job(mesh, LENT, blue, tmp_path), await make_key(mesh, "blue")
    alert = await _alert_id(mesh, blue)
    schedule = await make_schedule(mesh, LENT, blue)
    there = Names(model=OWN, team="red", job_id=job, schedule_id=schedule, key_id=key, alert_id=alert)
    for names, changed in (
        (replace(there, schedule_id=_other(schedule)), (schedule, _other(schedule))),
        (replace(there, job_id=_other(job)), (job, _other(job))),
        (replace(there, key_id=_other(key)), (key, _other(key))),
        (replace(there, alert_id=_other(alert)), (alert, _other(alert))),
    ):
        for call in CALLS:
            if _names_it(call, *changed, there):
                hidden, absent = await mesh.ask(call, there, red), await mesh.ask(call, names, red)
                assert hidden.renamed(*changed) == absent, call.method
                assert absent.code in {"NOT_FOUND", "UNIMPLEMENTED"}, (call.method, absent)
    assert (await mesh.ask(_call("GetBatchJob"), there, blue)).code == "OK"
    assert (await mesh.ask(_call("GetBatchSchedule"), there, blue)).code == "OK"
    assert (await mesh.ask(_call("GetAlert"), there, blue)).code == "OK"


async def test_lists_of_everything_show_each_team_its_own(mesh: Mesh, tmp_path: Path) -> None:
    blue, red = member("blue", "admin"), member("red", "admin")
    for model in (OWN, LENT, HIDDEN):
        await make_alert(mesh, model)
        await mesh.ask(_call("CreateDeployment"), Names(model=model, team=""), CALLERS["an operator"])
    for caller, model in ((red, OWN), (red, LENT), (blue, HIDDEN)):
        await make_job(mesh, model, caller, tmp_path)
        await make_schedule(mesh, model, caller)
    expected = {
        "ListDeployments": {OWN, LENT},
        "ListAlerts": {OWN, LENT},
        "ListBatchJobs": {OWN, LENT},
        "ListBatchSchedules": {OWN, LENT},
        "ListModels": {OWN, LENT, NOBODYS},
        "SearchModels": {OWN, LENT, NOBODYS},
    }
    for name, models in expected.items():
        shown = await _listed(mesh, name, red)
        assert shown == models, name
        limited = await _listed(mesh, name, CALLERS["a key for one model"])
        assert limited == {OWN}, name
        assert HIDDEN in await _listed(mesh, name, CALLERS["an operator"]), name
        assert HIDDEN in await _listed(mesh, name, blue), name


def _call(name: str) -> Call:
    return next(call for call in CALLS if call.descriptor.name == name)


async def _listed(mesh: Mesh, name: str, caller: Identity) -> set[str]:
    """Which of the walk's models an unfiltered list names."""
    call = _call(name)
    answer = await mesh.ask(call, Names(model="", team=""), caller, request=type(call.request(Names("", "")))())
    assert answer.code == "OK", (name, answer)
    return {model for model in STANDINGS if model.encode() in answer.payload}


async def _alert_id(mesh: Mesh, caller: Identity) -> str:
    call = _call("ListAlerts")
    answer = await mesh.ask(call, Names("", ""), caller, request=monitor_service_pb2.ListAlertsRequest())
    [alert] = monitor_service_pb2.ListAlertsResponse.FromString(answer.payload).alerts
    return str(alert.alert_id)


def _names_it(call: Call, before: str, after: str, names: Names) -> bool:
    """Whether the sample names the thing, and its rule leaves it to the service."""
    rule, sample = rule_of(call.method), call.request(names).SerializeToString()
    return before.encode() in sample and after != before and not (rule.internal_only or rule.model)


def _other(identifier: str) -> str:
    """An id of the same form that nothing has."""
    last = "0" if identifier[-1] != "0" else "1"
    return identifier[:-1] + last
