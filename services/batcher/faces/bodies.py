"""Bodies within their bound."""

from services.batcher.bridge.messages import Request
from services.batcher.codec.frames import too_large_error


def whole_body(request: Request) -> bytes:
    """The whole body. Raises MESSAGE_TOO_LARGE."""
    if not request.complete:
        raise too_large_error(len(request.body))
    return request.body
