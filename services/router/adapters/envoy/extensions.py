"""The filters whose configuration may change every second, each a resource of its own (ECDS).

They are in the listener by name alone. A changed listener would be a new one: connections would be drained, and a
gateway that carries its batcher would start another. A changed extension is taken by the requests that come next, and
nothing else is touched: not the others, not the cache of verified tokens, not what is under way.

Until an Envoy has all of them it does not listen. Should it have none that it can use, it goes by `closed`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message
from meshxds.envoy.config.core.v3 import config_source_pb2, extension_pb2
from meshxds.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from services.router.adapters.envoy import admission, authentication, limits, names
from services.router.adapters.envoy.messages import over_ads, packed
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.adapters.envoy.resources import Resource, resource
from services.router.domain.access import Callers


@dataclass(frozen=True, slots=True)
class Extension:
    """A filter that is configured by who may call."""

    name: str
    closed: Callable[[], Message]
    """What a gateway goes by that has nothing that it could use, of the same type as `made`: nobody may come in."""
    made: Callable[[Callers, EnvoyOptions], Message]
    """Its configuration."""


AUTHENTICATION = Extension(
    names.FILTER_AUTHENTICATION,
    authentication.nobody,
    lambda callers, options: authentication.authentication(callers, options.issuers),
)
ADMISSION = Extension(names.FILTER_ADMISSION, admission.closed, lambda callers, _: admission.admission(callers))
TEAM_LIMITS = Extension(names.FILTER_TEAM_LIMITS, limits.none, lambda callers, _: limits.teams(callers))
KEY_LIMITS = Extension(names.FILTER_KEY_LIMITS, limits.none, lambda callers, _: limits.keys(callers))

EXTENSIONS = (AUTHENTICATION, ADMISSION, TEAM_LIMITS, KEY_LIMITS)
"""All of them, in the order in which requests meet them. The filter that gives a role to those whom none was given is
between the two (`filters`)."""


def discovered(extension: Extension) -> http_connection_manager_pb2.HttpFilter:
    """The filter as the listener has it."""
    closed = packed(extension.closed())
    return http_connection_manager_pb2.HttpFilter(
        name=extension.name,
        config_discovery=config_source_pb2.ExtensionConfigSource(
            config_source=over_ads(first_fetch_timeout_s=0), default_config=closed, type_urls=[closed.type_url]
        ),
    )


def resources(callers: Callers, options: EnvoyOptions) -> Sequence[Resource]:
    """What Envoys are told of the filters, one after the other: revocations wait for nothing."""
    return [
        resource(
            one.name,
            extension_pb2.TypedExtensionConfig(name=one.name, typed_config=packed(one.made(callers, options))),
        )
        for one in sorted(EXTENSIONS, key=lambda one: one is not ADMISSION)
    ]
