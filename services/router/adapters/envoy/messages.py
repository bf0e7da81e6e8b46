"""Small pieces that all of Envoy's resources are made of."""

from google.protobuf import any_pb2, duration_pb2, wrappers_pb2
from google.protobuf.message import Message
from meshxds.envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2

from services.router.domain.address import split_address


def packed(message: Message) -> any_pb2.Any:
    """`message` as an Any. The same message gives the same bytes."""
    value = message.SerializeToString(deterministic=True)
    return any_pb2.Any(type_url=f"type.googleapis.com/{message.DESCRIPTOR.full_name}", value=value)


def seconds(amount: float) -> duration_pb2.Duration:
    """A length of time."""
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(amount * 1e9))
    return duration


def count(amount: int) -> wrappers_pb2.UInt32Value:
    """A number that may also be absent."""
    return wrappers_pb2.UInt32Value(value=amount)


def flag(value: bool) -> wrappers_pb2.BoolValue:
    """A truth value that may also be absent."""
    return wrappers_pb2.BoolValue(value=value)


def socket_address(address: str) -> address_pb2.Address:
    """host:port as Envoy writes it."""
    host, port = split_address(address)
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=host, port_value=port))


def over_ads(*, first_fetch_timeout_s: float) -> config_source_pb2.ConfigSource:
    """Where a resource comes from: the stream that the Envoy has with us. 0 s: it waits as long as it takes."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
        initial_fetch_timeout=seconds(first_fetch_timeout_s),
    )


def overwritten(name: str, value: str) -> base_pb2.HeaderValueOption:
    """Sets a header, whatever it was before."""
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )
