"""Kinds of Kubernetes, with where the API server has their objects.

Written down rather than asked for: it is a short list, and a call for each object saved.
"""

from dataclasses import dataclass

from services.common.kubernetes.names import GROUP


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind."""

    group: str
    """Empty: the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As objects state it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Where an object is, or without a name all of a namespace."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, *(("namespaces", namespace) if self.namespaced and namespace else ()), self.plural]
        return "/".join([*parts, *(part for part in (name, subresource) if part)])


MODEL_DEPLOYMENT = Kind(GROUP, "v1alpha1", "ModelDeployment", "modeldeployments")
