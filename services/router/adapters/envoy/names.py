"""The names by which the gateway's resources, filters and headers refer to each other, and its bounds."""

LISTENER = "gateway"
ROUTES = "gateway"

BATCHER = "batcher"
REGISTRY = "registry"
DEPLOYER = "deployer"
ROUTER = "router"
BATCH = "batch"
MONITOR = "monitor"
ADMIN = "gateway_admin"
"""Envoy's own admin port; the cluster is in the bootstrap, because only the launcher knows the port."""

HEADER_MODEL_NAME = "x-model-name"
"""From clients: the model of a gRPC prediction. It spares the gateway the look into the body."""
HEADER_MODEL_VERSION = "x-model-version"
"""From clients: the version wanted."""
HEADER_ROUTE_VERSION = "x-route-version"
"""To batchers: the version that the traffic rules chose."""
HEADER_MODEL = "x-mesh-model"
"""Inside the gateway: the model of a prediction, by which its virtual host is found."""
HEADER_PATH_VERSION = "x-mesh-version"
"""Inside the gateway: the version that a caller has chosen in the path of a REST call."""
HASHED = (HEADER_MODEL, HEADER_ROUTE_VERSION, HEADER_MODEL_VERSION, HEADER_PATH_VERSION)
"""What finds the batcher of a prediction: its model, and its version by whichever header has it. Envoy hashes values
and not names, and skips headers that are not there, so it does not matter who has chosen the version."""
NO_MODEL = "-"
"""Its value on requests that are for no model, or for none that is known yet. No model is called so."""
HEADER_ORIGINAL_PATH = "x-envoy-original-path"
"""Set by the transcoder: the path as the caller wrote it. So its presence tells REST from gRPC."""

FILTER_REST = "infermesh.rest"
FILTER_READY = "infermesh.ready"
FILTER_BODY_LIMIT = "infermesh.body_limit"
FILTER_TRANSCODER = "infermesh.transcoder"
FILTER_FIELD_EXTRACTION = "infermesh.field_extraction"
FILTER_MODEL_IN_PATH = "infermesh.model_in_path"
FILTER_MODEL = "infermesh.model"
FILTER_ROUTE_ANEW = "infermesh.route_anew"
FILTER_VERSION = "infermesh.version"
FILTER_CARRIED = "infermesh.batcher"

MODULE = "infermesh"
"""The dynamic module that runs Python in a gateway that carries a batcher; its process knows where the library is."""
APPLICATION = "services.batcher.app:app"
"""What it runs."""

BODY_MAX_BYTES = 12 * 1024 * 1024
"""The largest request or answer that is held in one piece; the services' own bound is the same."""
BODY_MAX_TEXT = "12 MB"
CONNECTION_WINDOW_BYTES = 4 * BODY_MAX_BYTES
"""HTTP/2 flow control of a connection: some large bodies at a time, and small ones never wait behind them."""
STREAMS_MAX = 1000
"""Requests at once on one HTTP/2 connection of a client."""
