"""The cases of the golden manifests of batch jobs. `python -m tests.support.batch_job_cases` writes the files anew."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from services.batch.domain.indexed_job import TEAMS_AUTHORITIES, Manifest, PodOptions, indexed_job
from services.batch.domain.job import Job, Status
from tests.support.batch_fakes import spec_of
from tests.support.operator_cases import plain

FOLDER = Path(__file__).parents[1] / "data" / "batch_jobs"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
JOB_ID = "batch_job_019ab3c4d5e6f7a8b9c0"
OPTIONS = PodOptions(
    owner="infermesh.mesh",
    image="registry.example/infermesh/services:0.1.0",
    batch_address="infermesh-batch.mesh:8104",
    registry_address="infermesh-registry.mesh:8101",
    batcher_address="infermesh-gateway.mesh:80",
)
SPOT = replace(
    OPTIONS,
    node_labels={"node.kubernetes.io/lifecycle": "spot"},
    taints=("node.kubernetes.io/lifecycle", "cloud.google.com/gke-spot"),
    image_pull_secrets=("pull",),
    env_from_secrets=("buckets",),
    service_account="batch-workers",
    cpu="500m",
    memory="1Gi",
    retries=2,
)
SECURED = replace(OPTIONS, tls_secret="infermesh-batch-worker-tls", batcher_tls=TEAMS_AUTHORITIES, taints=())


def job(**changes: object) -> Job:
    """A job that is carried."""
    spec = spec_of("s3://buc/in.csv", "s3://buc/out.csv", runtime="far", max_parallelism=4, timeout_minutes=90)
    made = Job(JOB_ID, spec, Status.RUNNING, NOW, NOW, team="vision", created_by="ann")
    return replace(made, **changes)  # type: ignore[arg-type]  # the fields of a Job


CASES: Mapping[str, tuple[Job, PodOptions, int]] = {
    "plain": (job(), OPTIONS, 1000),
    "few-chunks": (job(attempt=3), OPTIONS, 2),
    "spot": (job(), SPOT, 40),
    "secured": (job(), SECURED, 40),
    "nobody-s": (job(team=""), OPTIONS, 40),
}
"""What is asked, what is the same for all, and the number of chunks."""


def manifest(case: str) -> Manifest:
    """What is made in a case."""
    asked, options, chunks = CASES[case]
    return indexed_job(asked, options, namespace=asked.team or "default", chunks=chunks)


def text_of(case: str) -> str:
    """A golden file's text."""
    return yaml.safe_dump(plain(manifest(case)), sort_keys=False, width=120)


def main() -> None:
    """Writes all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        (FOLDER / f"{case}.yaml").write_text(text_of(case))


if __name__ == "__main__":
    main()
