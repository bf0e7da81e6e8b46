"""The one method that gateways call, and what its messages may be."""

ADS_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
ADS_NAME = "StreamAggregatedResources"
ADS_METHOD = f"/{ADS_SERVICE}/{ADS_NAME}"

MESSAGE_MAX_BYTES = 64 * 1024 * 1024
"""The router's own bound is far below: what it can send passes."""

_MESSAGES = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
)
SERVER_OPTIONS = (
    *_MESSAGES,
    ("grpc.max_concurrent_streams", 64),
    # A port that is taken is an error to say, not to share.
    ("grpc.so_reuseport", 0),
    # Gateways ping every 5 s, also while nothing is said.
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
CHANNEL_OPTIONS = (
    *_MESSAGES,
    # A router that hangs without closing is noticed within 7 s. It allows a ping every 5 s.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # One that is back is noticed within half a second, and that costs nothing on the way there.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
)
