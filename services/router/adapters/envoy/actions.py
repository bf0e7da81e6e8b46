"""How requests are sent on: time limits and retries, stated for every route because Envoy's defaults fit none."""

from google.protobuf import any_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2

from services.router.adapters.envoy.messages import count, packed, seconds

PREDICT_TIMEOUT_S = 60.0
"""The longest that a prediction may take; callers state less by `grpc-timeout` or `timeout_ms`."""
STREAM_IDLE_S = 3600.0
"""How long a stream may be silent in both directions: nothing may happen for long where somebody watches."""
STREAM_MAX_S = 24 * 3600.0
"""How long a stream may last."""

_RETRIES_MAX = 3
_OTHER_HOST_ATTEMPTS = 32
"""How often another host is looked for. Each attempt takes another place of the table of batchers, which may be the
same batcher's: of two, it is with a chance of a half. Where there is only one it is asked again after these."""

_Action = route_components_pb2.RouteAction


def predict() -> route_components_pb2.RouteAction:
    """For one prediction."""
    return _action(timeout_s=PREDICT_TIMEOUT_S, idle_s=PREDICT_TIMEOUT_S, max_s=PREDICT_TIMEOUT_S)


def call() -> route_components_pb2.RouteAction:
    """For calls of the control plane, streams among them. Calls end by their deadline, of which services have a
    default; dead services are noticed by their connections."""
    return _action(timeout_s=0, idle_s=STREAM_IDLE_S, max_s=STREAM_MAX_S)


def stream() -> route_components_pb2.RouteAction:
    """For streams of predictions."""
    return _action(timeout_s=0, idle_s=STREAM_IDLE_S, max_s=STREAM_MAX_S)


def retry_predictions() -> route_components_pb2.RetryPolicy:
    """A prediction changes nothing, so it is tried again wherever its batcher did not answer it; by another batcher
    where there is one."""
    return _retry("connect-failure,refused-stream,reset-before-request,reset,unavailable", first_s=0.025, longest_s=0.5)


def retry_unsent() -> route_components_pb2.RetryPolicy:
    """For what may change something: only what has not reached the service is tried again."""
    return _retry("connect-failure,refused-stream", first_s=0.1, longest_s=1.0)


def to(cluster: str, action: route_components_pb2.RouteAction) -> route_components_pb2.RouteAction:
    """`action`, sent to `cluster`."""
    sent = _Action()
    sent.CopyFrom(action)
    sent.cluster = cluster
    return sent


def _action(*, timeout_s: float, idle_s: float, max_s: float) -> route_components_pb2.RouteAction:
    return _Action(
        # Of the answer, from the end of the request on.
        timeout=seconds(timeout_s),
        idle_timeout=seconds(idle_s),
        # Of it all. The header is the caller's deadline.
        max_stream_duration=_Action.MaxStreamDuration(
            max_stream_duration=seconds(0 if timeout_s else max_s), grpc_timeout_header_max=seconds(max_s)
        ),
    )


def _retry(on: str, *, first_s: float, longest_s: float) -> route_components_pb2.RetryPolicy:
    policy = route_components_pb2.RetryPolicy
    other_host = policy.RetryHostPredicate(name="envoy.retry_host_predicates.previous_hosts", typed_config=_previous())
    return policy(
        retry_on=on,
        num_retries=count(_RETRIES_MAX),
        retry_back_off=policy.RetryBackOff(base_interval=seconds(first_s), max_interval=seconds(longest_s)),
        retry_host_predicate=[other_host],
        host_selection_retry_max_attempts=_OTHER_HOST_ATTEMPTS,
    )


def _previous() -> any_pb2.Any:
    return packed(previous_hosts_pb2.PreviousHostsPredicate())
