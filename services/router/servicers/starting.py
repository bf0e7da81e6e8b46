"""How the traffic calls hand a canary over to those who run them."""

from typing import Protocol

from infermesh.router.v1 import traffic_rule_pb2

from services.router.domain.view import TrafficView
from services.router.domain.wishes import SplitWish
from services.router.engines.traffic import Call, Plan


class CanaryStarter(Protocol):
    """Starts canaries."""

    async def start(self, call: Call, wish: SplitWish, config: traffic_rule_pb2.CanaryConfig) -> TrafficView:
        """Starts a canary of the version of the deployment that the call names, with what else the call wishes; the
        traffic then."""
        ...

    async def plan(self, call: Call, wish: SplitWish, config: traffic_rule_pb2.CanaryConfig) -> Plan:
        """What `start` would do first. Raises as it would."""
        ...
