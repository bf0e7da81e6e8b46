"""What a team may be given on the command line, and how it gets into the message."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from infermesh.registry.v1 import team_pb2

_QUOTA = "Quotas, for platform admins"


def _quota(name: str, metavar: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, metavar=metavar, help=text, rich_help_panel=_QUOTA)
    return option


DescriptionOption = Annotated[str, typer.Option("--description", metavar="TEXT", help="What it is, in a sentence.")]
CpuOption = Annotated[str, _quota("--cpu", "CPU", "The most CPU at one time, for instance 64 or 500m.")]
MemoryOption = Annotated[str, _quota("--memory", "MEMORY", "The most memory, for instance 256Gi.")]
GpuOption = Annotated[int | None, _quota("--gpu", "NUMBER", "The most GPUs.")]
ModelsOption = Annotated[int | None, _quota("--models", "NUMBER", "The most registered models.")]
JobsOption = Annotated[int | None, _quota("--batch-jobs", "NUMBER", "The most batch jobs that run at one time.")]
BytesOption = Annotated[float | None, _quota("--artifact-bytes", "BYTES", "The most bytes of stored artifacts.")]
RateOption = Annotated[float | None, _quota("--requests-per-sec", "RATE", "Requests a second in the long run.")]
BurstOption = Annotated[float | None, _quota("--burst", "NUMBER", "Requests that may pass at once.")]
UnsafeOption = Annotated[
    bool | None, typer.Option("--unsafe-artifacts/--no-unsafe-artifacts", help="Whether pickles may be registered.")
]
SignedOption = Annotated[
    bool | None, typer.Option("--signed-only/--unsigned-too", help="Whether only signed versions may be deployed.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamWish:
    """What was said on the command line. Empty or None: not said."""

    description: str
    cpu: str
    memory: str
    gpu: int | None
    models: int | None
    batch_jobs: int | None
    artifact_bytes: float | None
    requests_per_sec: float | None
    burst: float | None
    unsafe_artifacts: bool | None
    signed_only: bool | None

    def write(self, team: team_pb2.Team) -> Sequence[str]:
        """Writes it into `team`; the fields of the message that were touched."""
        quota: dict[str, str | int | float | None] = {
            "cpu": self.cpu or None,
            "memory": self.memory or None,
            "gpu": self.gpu,
            "models": self.models,
            "batch_concurrency": self.batch_jobs,
            "artifact_bytes": self.artifact_bytes,
        }
        rate = {"requests_per_sec": self.requests_per_sec, "burst": self.burst}
        own = {
            "description": self.description or None,
            "allow_unsafe_artifacts": self.unsafe_artifacts,
            "require_signature": self.signed_only,
        }
        touched = [
            name
            for name, message, said in (
                ("resource_quota", team.resource_quota, quota),
                ("rate_limit", team.rate_limit, rate),
            )
            if _set(message, said)
        ]
        return [*touched, *_set(team, own)]


def _set(
    message: team_pb2.Team | team_pb2.ResourceQuota | team_pb2.RateLimit,
    said: "dict[str, str | int | float | None] | dict[str, float | None] | dict[str, str | bool | None]",
) -> Sequence[str]:
    named = [name for name, value in said.items() if value is not None]
    for name in named:
        setattr(message, name, said[name])
    return named
