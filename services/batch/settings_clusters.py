"""What the batch service can be told about clusters in which the work of jobs runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from services.batch.domain.indexed_job import PodOptions
from services.common.kubernetes.clusters import kubeconfigs
from services.common.settings import ServiceSettings


def _listed(value: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in value.split(",") if one.strip())


class ClusterSettings(ServiceSettings):
    """Part of `BatchSettings`. Pods are in the namespaces of teams, so addresses in them name the mesh's namespace too,
    and Secrets are those of the team's namespace."""

    clusters: str = ""
    """The Kubernetes clusters that a job's `runtime` may name, separated by commas: each a name, and after "=" the path
    of its kubeconfig. Without a path it is the cluster that this runs in, by its pod's service account."""
    cluster_owner: str = Field(default="infermesh", pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
    """What tells this mesh's Jobs from those of other meshes in the same cluster. Jobs of this owner that no job needs
    are removed."""
    cluster_namespace: str = "default"
    """The namespace of Jobs whose job is no team's."""
    cluster_namespaces: str = ""
    """The namespaces in which Jobs may be, separated by commas; empty: all."""
    pod_image: str = ""
    """The image of workers: that of this service. Required with `clusters`."""
    pod_image_pull_secrets: str = ""
    """Secrets by which it is pulled, separated by commas."""
    pod_batch_address: str = ""
    """host:port of this service, as pods reach it. Required with `clusters`."""
    pod_registry_address: str = ""
    """host:port of the registry, as pods reach it. Required with `clusters`."""
    pod_batcher_address: str = ""
    """host:port of the gateway, as pods reach it. Required with `clusters`."""
    pod_batcher_tls: Literal["", "system", "secret"] = ""
    """Whether that speaks TLS. Empty: no. "system": by authorities that the image believes. "secret": by those
    which the operator keeps in teams' namespaces."""
    pod_tls_secret: str = ""
    """The Secret with ca.crt, tls.crt and tls.key by which pods speak to this service and the registry. Empty: none,
    for a mesh without TLS."""
    pod_env_from_secrets: str = ""
    """Secrets of which each key becomes a variable of workers, separated by commas: AWS_ACCESS_KEY_ID and the like."""
    pod_service_account: str = "default"
    """Whom pods run as, for a workload's identity towards buckets. No token of Kubernetes is mounted."""
    pod_cpu: str = "1"
    """CPU of a worker, as Kubernetes writes it."""
    pod_memory: str = "2Gi"
    """Memory of a worker, as Kubernetes writes it."""
    pods_max: int = Field(default=64, ge=1, le=1000)
    """The most workers of one job."""
    pod_retries: int = Field(default=6, ge=0, le=100)
    """How often a worker that dies by itself is started again. One that is preempted or evicted always is."""
    pod_start_timeout_s: float = Field(default=300.0, ge=1, le=86_400)
    """How long a job may be without any worker, in seconds, for a reason that does not pass by itself, such as an image
    that is not there or a quota; then it fails. A node is waited for as long as the job may run."""
    pod_silent_timeout_s: float = Field(default=300.0, ge=1, le=86_400)
    """How long a job's workers may run before any of them has asked this service for work, in seconds; then they cannot
    reach it, or show it no certificate of the mesh, and the job fails."""
    spot_node_labels: str = "node.kubernetes.io/lifecycle=spot"
    """Labels of the nodes that workers run on, separated by commas, each key=value. Empty: any node."""
    spot_taints: str = "node.kubernetes.io/lifecycle"
    """Keys of the taints of these nodes, separated by commas."""

    @field_validator("clusters")
    @classmethod
    def _named(cls, value: str) -> str:
        kubeconfigs(value)
        return value

    @field_validator("spot_node_labels")
    @classmethod
    def _labelled(cls, value: str) -> str:
        for one in _listed(value):
            if not one.partition("=")[0] or "=" not in one:
                raise ValueError(f"{one!r} is no label; use key=value, separated by commas")
        return value

    @property
    def kubeconfigs(self) -> Mapping[str, Path | None]:
        """The clusters by name; None: the one that this runs in."""
        return kubeconfigs(self.clusters)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those of `cluster_namespaces`."""
        return _listed(self.cluster_namespaces)

    def cluster_fault(self, prefix: str) -> str:
        """What is missing where there are clusters, as a sentence; empty: nothing."""
        needed = ("pod_image", "pod_batch_address", "pod_registry_address", "pod_batcher_address")
        missing = [f"{prefix}{name.upper()}" for name in needed if not getattr(self, name)]
        if not self.clusters or not missing:
            return ""
        return f"{prefix}CLUSTERS is set and {', '.join(missing)} not; say what pods in them run and whom they reach"

    def pod_options(self, *, authentication: bool, request_timeout_s: float, outage_timeout_s: float) -> PodOptions:
        """What is the same for the workers of all jobs."""
        labels = (one.partition("=") for one in _listed(self.spot_node_labels))
        return PodOptions(
            owner=self.cluster_owner,
            image=self.pod_image,
            batch_address=self.pod_batch_address,
            registry_address=self.pod_registry_address,
            batcher_address=self.pod_batcher_address,
            batcher_tls=self.pod_batcher_tls,
            authentication=authentication,
            tls_secret=self.pod_tls_secret,
            image_pull_secrets=_listed(self.pod_image_pull_secrets),
            env_from_secrets=_listed(self.pod_env_from_secrets),
            service_account=self.pod_service_account,
            cpu=self.pod_cpu,
            memory=self.pod_memory,
            node_labels={key: value for key, _, value in labels},
            taints=_listed(self.spot_taints),
            pods_max=self.pods_max,
            retries=self.pod_retries,
            request_timeout_s=request_timeout_s,
            outage_timeout_s=outage_timeout_s,
            log_level=self.log_level,
        )
