"""The one table: what every RPC of every service asks of its caller. A test holds it against the contracts.

A method that is not in it is refused to every caller with a role: what nobody decided about is closed.
"""

from collections.abc import Mapping
from types import MappingProxyType

from services.common.access.policy_monitor import MONITOR_RULES
from services.common.access.policy_registry import REGISTRY_RULES
from services.common.access.policy_serving import SERVING_RULES
from services.common.access.roles import Role
from services.common.access.rule import Rule

RULES: Mapping[str, Rule] = MappingProxyType({**REGISTRY_RULES, **SERVING_RULES, **MONITOR_RULES})
"""Full method name, as "/package.Service/Method", to its rule."""

UNKNOWN = Rule(role=Role.PLATFORM_ADMIN, internal_only=True)
"""The rule of a method that the table does not have, such as the discovery services that gateways use."""

OPEN_PREFIXES = ("/grpc.health.", "/grpc.reflection.")
"""Methods that need no credential and are not asked about: whether a service lives, and what its contract is."""


def rule_of(method: str) -> Rule:
    """The rule of a method by its full name."""
    return RULES.get(method, UNKNOWN)
