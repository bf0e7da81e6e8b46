"""Five hundred model deployments at once: how many calls that takes, and, told but not judged, how long."""

import asyncio
import os
import time

import pytest

from services.common.body import text
from tests.integration.operator.conftest import Ground
from tests.support.operator_kube import wish
from tests.support.operator_site import operator_site
from tests.support.waiting import eventually

MANY = int(os.environ.get("INFERMESH_TEST_MANY", "500"))
CALLS_EACH_MAX = 11
"""A finalizer, five objects, up to four words of status, an Event."""
LATE_LOOK_EVERY_S = 10.0
"""Pods that are late are looked at no more often. How often in all depends on the cluster: its controllers make 20
calls a second where nobody tells them otherwise."""


@pytest.mark.timeout(300)
async def test_five_hundred_converge_by_a_bounded_number_of_calls(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"model-{number}" for number in range(MANY)]
    gate = asyncio.Semaphore(8)

    async def make(name: str) -> None:
        async with gate:
            await ground.kube.apply(wish(ground.namespace, name, modelName=name, resources={"cpu": "100m"}))

    await asyncio.gather(*map(make, names))
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    # On a machine that is this busy, a lease of seconds would change hands.
    options = {"namespaces": ground.namespace, "lease_lasts_s": 60}
    async with operator_site(ground.kubeconfig, options=options) as site:
        view = site.operator.view

        def all_answer() -> bool:
            found = (view.wish((ground.namespace, name)) for name in names)
            return all(text(one, "status", "phase") == "active" for one in found)

        await eventually(all_answer, timeout_s=240, every_s=0.5)
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        calls = site.operator.api.calls()
        looks = site.operator.queue.looks
        await eventually(lambda: len(site.operator.queue) == 0)
        before = sum(site.operator.api.calls().values())
        for name in names:
            site.operator.queue.add((ground.namespace, name))
        await eventually(lambda: len(site.operator.queue) == 0)
        again = {kind: count - calls.get(kind, 0) for kind, count in site.operator.api.calls().items()}
        assert sum(site.operator.api.calls().values()) - before <= 5, f"what is done costs calls: {again}"
    counted = {f"{verb} {kind}": count for (verb, kind), count in sorted(calls.items()) if kind != "Lease"}
    total = sum(counted.values())
    with capsys.disabled():
        each = f"{total} calls ({total / MANY:.1f} each), {looks} looks, {cpu_s:.1f} s of CPU in this process"
        print(f"\n{MANY} model deployments answer after {took_s:.1f} s; {each}")
        print(counted)
    late = counted.pop("GET Pod", 0)
    assert late <= MANY * took_s / LATE_LOOK_EVERY_S
    assert total - late <= CALLS_EACH_MAX * MANY
