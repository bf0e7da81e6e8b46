"""The client: one connection to a gateway, and a namespace for each thing that the mesh does."""

from types import TracebackType
from typing import Self

from infermesh.client.ab_tests import AbTests
from infermesh.client.alert_rules import AlertRules, Channels, Silences
from infermesh.client.alerts import Alerts
from infermesh.client.artifacts import Artifacts
from infermesh.client.batch import Batch
from infermesh.client.canaries import Canaries
from infermesh.client.changes import Changes
from infermesh.client.credentials import Credentials
from infermesh.client.deployments import Deployments
from infermesh.client.drift import Drift
from infermesh.client.health import Health
from infermesh.client.keys import Keys
from infermesh.client.logs import Logs
from infermesh.client.metrics import Metrics
from infermesh.client.models import Models
from infermesh.client.outcomes import Outcomes
from infermesh.client.predictions import Predictions
from infermesh.client.schedules import Schedules
from infermesh.client.shadows import Shadows
from infermesh.client.teams import Teams
from infermesh.client.traffic import Traffic
from infermesh.client.transport import TIMEOUT_DEFAULT_S, Transport
from infermesh.client.usage import Usage

GATEWAY_DEFAULT = "127.0.0.1:8080"


class Client:
    """A mesh, seen from its gateway. Safe to use from many threads; use it as a context manager, or close it.

    `timeout_s` is the deadline in seconds of every call that states none of its own. `credentials` are by default what
    the environment says (INFERMESH_API_KEY, INFERMESH_CA_FILE). A gateway that speaks TLS is "https://host:port".
    """

    def __init__(
        self,
        gateway: str = GATEWAY_DEFAULT,
        *,
        timeout_s: float = TIMEOUT_DEFAULT_S,
        credentials: Credentials | None = None,
    ) -> None:
        self._transport = Transport(gateway, timeout_s=timeout_s, credentials=credentials)
        self.models = Models(self._transport)
        self.artifacts = Artifacts(self._transport)
        self.changes = Changes(self._transport)
        self.deployments = Deployments(self._transport)
        self.traffic = Traffic(self._transport)
        self.canaries = Canaries(self._transport)
        self.ab_tests = AbTests(self._transport)
        self.shadows = Shadows(self._transport)
        self.predict = Predictions(self._transport)
        self.batch = Batch(self._transport)
        self.schedules = Schedules(self._transport)
        self.metrics = Metrics(self._transport)
        self.logs = Logs(self._transport)
        self.outcomes = Outcomes(self._transport)
        self.drift = Drift(self._transport)
        self.alerts = Alerts(self._transport)
        self.rules = AlertRules(self._transport)
        self.channels = Channels(self._transport)
        self.silences = Silences(self._transport)
        self.teams = Teams(self._transport)
        self.keys = Keys(self._transport)
        self.usage = Usage(self._transport)
        self.health = Health(self._transport)

    @property
    def gateway(self) -> str:
        """Host and port of the gateway."""
        return self._transport.address

    def wait_until_connected(self, timeout_s: float) -> None:
        """Returns once the gateway accepts connections. Raises GATEWAY_UNREACHABLE after `timeout_s` seconds."""
        self._transport.wait_until_connected(timeout_s)

    def close(self) -> None:
        """Ends the connection and the calls that still run on it."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
