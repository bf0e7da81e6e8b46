"""Jobs whose work runs in a cluster: the Job, its pods, which are real workers, and what becomes of both.

Over an API server that is played, and over a real one with its Job controller where INFERMESH_TEST_KUBECONFIG names it.
"""

import pytest
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.common.body import at, name_of, text, whole
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from tests.integration.batch.driving import ModelPort, Service
from tests.support.batch_ground import (
    BUCKETS,
    ROWS,
    Ground,
    cluster_settings,
    ids,
    places,
)
from tests.support.batch_servers import SumsServicer
from tests.support.s3 import S3
from tests.support.waiting import eventually

CLOCK = SystemClock()
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def workers() -> int:
    """One local worker, which must keep its hands off."""
    return 1


@pytest.fixture
def more_settings(
    ground: Ground, service_ports: list[int], registry_address: str, model_port: ModelPort
) -> dict[str, object]:
    return cluster_settings(
        ground,
        batch_port=service_ports[0],
        registry_address=registry_address,
        batcher_address=f"127.0.0.1:{model_port.port}",
    )


async def workers_of(service: Service, job_id: str) -> set[str]:
    listed = await service.stub.ListBatchChunks(batch_service_pb2.ListBatchChunksRequest(job_id=job_id, page_size=1000))
    return {chunk.worker for chunk in listed.chunks}


async def nothing_is_left(ground: Ground) -> None:
    """Neither a Job nor a process, within five seconds."""
    began_s = CLOCK.monotonic()

    async def gone() -> bool:
        return await ground.job() is None and not ground.node.alive()

    await eventually(gone, what="the Job and its workers are gone")
    assert CLOCK.monotonic() - began_s < (5 if not ground.real else 10)


async def running(ground: Ground, count: int) -> list[str]:
    """The uids of that many pods that run."""
    await eventually(lambda: len(ground.node.alive()) == count, timeout_s=60, what=f"{count} workers run")
    return ground.node.alive()


async def test_two_indexes_do_a_job_whole_of_which_one_is_killed_and_one_preempted(
    service: Service, model: SumsServicer, s3: S3, ground: Ground
) -> None:
    source, target = places(s3)
    model.hold_after(20)
    job = await service.submit(source, target, batch_size=20, runtime="far", max_parallelism=2)
    assert job.runtime == "far"
    first, second = await running(ground, 2)
    await eventually(lambda: len(model.holding) == 2, timeout_s=60, what="both wait for the model")
    ground.node.kill(first)
    await eventually(lambda: first in ground.node.codes(), what="its death is noticed")
    await ground.node.preempt(second)
    model.release()
    ended = await service.ended(job.job_id, timeout_s=90)
    assert ended.status == "completed", ended.error_message
    assert ids(s3, target) == [1000 + row for row in range(ROWS)]
    name = f"{job.job_id.replace('_', '-')}-1"
    assert await workers_of(service, job.job_id) == {f"{name}-0", f"{name}-1"}
    assert ground.node.codes()[first] == -9
    await nothing_is_left(ground)
    assert ground.node.codes()[second] == 143, "it gave its chunks back, and is no success"


async def test_a_job_is_paused_changed_resumed_and_cancelled_and_who_carries_it_may_die(
    service: Service, model: SumsServicer, s3: S3, ground: Ground
) -> None:
    source, target = places(s3)
    model.hold_after(5)
    job = await service.submit(source, target, batch_size=20, runtime="far", max_parallelism=2)
    await running(ground, 2)
    made = await ground.job()
    await service.kill()
    await service.start()
    changed = batch_job_pb2.BatchJob(job_id=job.job_id, max_parallelism=1)
    await service.stub.UpdateBatchJob(batch_service_pb2.UpdateBatchJobRequest(job=changed))
    await running(ground, 1)
    there = await ground.job()
    assert text(there, "metadata", "uid") == text(made, "metadata", "uid"), "it is the same Job"
    assert (whole(there, "spec", "completions"), whole(there, "spec", "parallelism")) == (2, 1)
    await service.stub.PauseBatchJob(batch_service_pb2.PauseBatchJobRequest(job_id=job.job_id))
    began_s = CLOCK.monotonic()
    await running(ground, 0)
    assert CLOCK.monotonic() - began_s < 5
    paused = await ground.job()
    assert at(paused, "spec", "suspend") is True
    await service.stub.ResumeBatchJob(batch_service_pb2.ResumeBatchJobRequest(job_id=job.job_id))
    await running(ground, 1)
    await service.stub.CancelBatchJob(batch_service_pb2.CancelBatchJobRequest(job_id=job.job_id))
    await nothing_is_left(ground)
    model.release()


async def test_a_local_worker_does_no_chunk_of_a_cluster_and_the_other_way_round(
    service: Service, s3: S3, ground: Ground
) -> None:
    source, target = places(s3, 400)
    ground.node.waiting = {"reason": "ContainerCreating"}
    far = await service.submit(source, target, runtime="far")
    near = await service.submit(*places(s3, 400))
    assert (await service.ended(near.job_id, timeout_s=60)).status == "completed"
    assert await workers_of(service, near.job_id) == {"batch-0-worker-0"}
    assert await workers_of(service, far.job_id) == {""}, "nobody has done any chunk"
    ground.node.waiting = None
    assert (await service.ended(far.job_id, timeout_s=90)).status == "completed"
    assert "batch-0-worker-0" not in await workers_of(service, far.job_id)


async def test_an_image_that_cannot_be_pulled_is_the_job_s_error(service: Service, s3: S3, ground: Ground) -> None:
    ground.node.waiting = {"reason": "ErrImagePull", "message": "manifest unknown"}
    job = await service.ended((await service.submit(*places(s3, 100), runtime="far")).job_id, timeout_s=60)
    assert (job.status, job.error_reason) == ("failed", Reason.WORKERS_FAILED)
    assert "manifest unknown; see that INFERMESH_BATCH_POD_IMAGE exists" in job.error_message
    await nothing_is_left(ground)


async def test_workers_that_can_never_work_fail_the_job(service: Service, s3: S3, ground: Ground) -> None:
    await ground.keep(BUCKETS, {"INFERMESH_BATCH_WORKER_NICENESS": b"nowhere"})
    job = await service.ended((await service.submit(*places(s3, 100), runtime="far")).job_id, timeout_s=120)
    assert (job.status, job.error_reason) == ("failed", Reason.WORKERS_FAILED), job.error_message
    assert set(ground.node.codes().values()) == {78}
    await nothing_is_left(ground)


async def test_a_quota_that_lets_no_pod_through_is_the_job_s_error(service: Service, s3: S3, ground: Ground) -> None:
    if not ground.real:
        pytest.skip("a played API server has no quotas")
    metadata = {"name": "small", "namespace": ground.namespace}
    hard = {"requests.cpu": "100m", "limits.cpu": "100m"}
    await ground.kube.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})
    job = await service.ended((await service.submit(*places(s3, 100), runtime="far")).job_id, timeout_s=60)
    assert (job.status, job.error_reason) == ("failed", Reason.QUOTA_EXCEEDED), job.error_message
    assert "exceeded quota: small" in job.error_message
    await nothing_is_left(ground)


async def test_what_is_made_is_taken_as_it_is(service: Service, model: SumsServicer, s3: S3, ground: Ground) -> None:
    model.hold_after(0)
    job = await service.submit(*places(s3, 400), runtime="far", max_parallelism=2, timeout_minutes=7)
    await running(ground, 2)
    there = await ground.job()
    assert there is not None
    assert name_of(there) == f"{job.job_id.replace('_', '-')}-1"
    assert (at(there, "spec", "completionMode"), whole(there, "spec", "activeDeadlineSeconds")) == ("Indexed", 420)
    model.release()
    assert (await service.ended(job.job_id, timeout_s=90)).status == "completed"


async def test_a_cluster_that_is_not_named_is_refused_with_those_that_are(service: Service, s3: S3) -> None:
    with pytest.raises(MeshError, match="one of local, far") as error:
        await service.submit(*places(s3, 10), runtime="near")
    assert error.value.reason is Reason.INVALID_FIELD
