"""A deployer whose forecast raises the floor, whole: the history in PostgreSQL, statsmodels in its process, Triton."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from infermesh.deployer.v1 import activation_service_pb2, activation_service_pb2_grpc, deployment_pb2
from pydantic import SecretStr

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.deployer.adapters.postgres import SCHEMA
from services.deployer.adapters.request_history import PostgresRequestHistory
from services.deployer.domain.history import BUCKET_S, DAY, Bucket, bucket_start
from services.deployer.settings import DeployerSettings
from tests.integration.deployer.driving import DIGITS, Mesh, Triton
from tests.support.deployer_fakes import FakeVersions, recipe
from tests.support.waiting import eventually

VERSION = "v1.0.0"
RATE = 30.0


async def remember(url: str, days: int) -> None:
    """As many requests per second at all times of so many days before."""
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA)
    start = bucket_start(SystemClock().now())
    ages = range(1, days * DAY + 1)
    buckets = [Bucket(start - timedelta(seconds=age * BUCKET_S), BUCKET_S, RATE * BUCKET_S) for age in ages]
    await PostgresRequestHistory(engine).add({("digits", "main"): buckets})
    await engine.dispose()


@pytest.mark.timeout(120)
async def test_what_came_on_days_before_has_replicas_before_it_comes(
    database_url: str, triton: Triton, tmp_path: Path
) -> None:
    """A restart later the history is still there, with what was counted since."""
    await remember(database_url, 3)
    artifact = DIGITS / f"digits-{VERSION}.onnx"
    made_of = recipe(path=str(artifact), digest=hashlib.sha256(artifact.read_bytes()).hexdigest())
    settings = DeployerSettings(
        port=0,
        metrics_port=0,
        database_url=SecretStr(database_url),
        model_repository=tmp_path / "repository",
        triton_http_address=f"127.0.0.1:{triton.part.ports['triton_http']}",
        triton_grpc_address=f"127.0.0.1:{triton.part.ports['triton_grpc']}",
        triton_metrics_address=f"127.0.0.1:{triton.part.ports['triton_metrics']}",
        drain_s=0.2,
        period_s=0.1,
    )
    mesh = Mesh(settings, FakeVersions({("digits", VERSION): made_of}))
    await mesh.start()
    scaling = deployment_pb2.Autoscaling(
        enabled=True, min_replicas=1, max_replicas=3, target_requests_per_sec=10, predictive=True
    )
    await mesh.deploy(VERSION, "main", autoscaling=scaling)

    async def told() -> deployment_pb2.Deployment | None:
        """The batcher has four requests per second; the deployment once it is as the forecast would have it."""
        assert mesh.channel is not None
        demand = activation_service_pb2.VersionDemand(model_name="digits", version=VERSION, requests=8, in_flight=1)
        request = activation_service_pb2.ReportDemandRequest(batcher_id="b", window_s=2.0, demands=[demand])
        await activation_service_pb2_grpc.ActivationServiceStub(mesh.channel).ReportDemand(request, timeout=5)
        found = await mesh.get("main")
        return found if found.ready_replicas == 3 else None

    try:
        scaled = await eventually(told, timeout_s=90, every_s=0.2)
        assert scaled is not None
        [condition] = [one for one in scaled.conditions if one.type == "Autoscaled"]
        assert (condition.status, condition.reason) == ("True", "Forecast")
        assert condition.message.startswith("3 replicas, by forecast: 30 requests/s at ")
        assert condition.message.endswith("UTC, 10 a replica")
    finally:
        await mesh.stop()
    engine = create_engine(database_url, schema=SCHEMA)
    rows = await PostgresRequestHistory(engine).read(("digits", "main"), datetime.min.replace(tzinfo=UTC))
    await engine.dispose()
    counted = [row for row in rows if row.version == VERSION]
    assert len(rows) > 3 * DAY
    assert counted
    assert all(0 < row.requests <= 4.0 * row.known_s + 1e-6 for row in counted)
    assert all(row.decisions > 0 for row in counted)
