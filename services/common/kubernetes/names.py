"""What the operator and whoever follows it agree on: the kinds of the mesh, and the labels by which it is known what
answers where.

Labels say of pods, and because Kubernetes copies a Service's labels to them also of EndpointSlices, which version of
which model deployment they are: so who follows endpoints knows of every address what answers there.
"""

import hashlib
import re

GROUP = "infermesh.dev"
API_VERSION = f"{GROUP}/v1alpha1"
FINALIZER = f"{GROUP}/drain"

MODEL = f"{GROUP}/model"
VERSION = f"{GROUP}/version"
DEPLOYMENT = f"{GROUP}/deployment"
"""The name of the ModelDeployment object."""
TEAM = f"{GROUP}/team"
BATCH_WORKERS = "infermesh-batch"
"""The value of app.kubernetes.io/name of pods that do the work of batch jobs."""

ROUTED = "Routed"
"""The condition of a ModelDeployment by which the deployer says whether requests are sent to it."""
MIRRORED = "Mirrored"
"""The condition of a ModelDeployment by which the deployer says whether the mesh has taken it up."""
FORECAST = "Forecast"
"""The condition of a ModelDeployment by which the deployer says what becomes of a forecast of its requests."""
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SLUG_LENGTH_MAX = 16
_RELEASE = re.compile(r"v\d+\.\d+\.\d+")


def label_value(value: str) -> str:
    """A name as the value of a label: itself where that is allowed, else its beginning and a digest."""
    if _LABEL_VALUE.fullmatch(value):
        return value
    # A pre-release may end with a dash, which a label may not.
    return f"{value[:50].rstrip('-_.')}-{digest(value)}"


def version_slug(version: str) -> str:
    """A version as a part of names, other for other versions: v1.2.3 is v1-2-3; what is longer or no plain release has
    a digest."""
    plain = version.replace(".", "-").lower()
    if _RELEASE.fullmatch(version) and len(plain) <= _SLUG_LENGTH_MAX:
        return plain
    return f"v{digest(version)}"


def workload_name(deployment: str, version: str) -> str:
    """What the Deployment, Service and autoscaler of a version of a model deployment are called."""
    return f"{deployment}-{version_slug(version)}"


def digest(text: str) -> str:
    """Tells one text from another, in 10 characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
