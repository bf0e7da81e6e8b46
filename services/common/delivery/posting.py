"""One POST to a receiver, signed where asked, and what its answer means."""

import hashlib
import hmac
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpcore

from services.common.delivery.letters import UndeliveredError
from services.common.delivery.outward import ForbiddenAddressError, Outward
from services.common.delivery.pace import passes

SIGNATURE_HEADER = "x-infermesh-signature"
ID_HEADER = "idempotency-key"
_JSON = "application/json; charset=utf-8"


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """`t=<Unix seconds>,v1=<hex>`: HMAC-SHA256, by the secret, of the seconds, a dot and the body."""
    signed = b"%d.%b" % (timestamp, body)
    return f"t={timestamp},v1={hmac.new(secret, signed, hashlib.sha256).hexdigest()}"


async def post_json(outward: Outward, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """POSTs JSON. Raises UndeliveredError, which names the host alone of the URL: the rest may be a secret."""
    host = urlsplit(url).hostname
    sent = {
        "host": urlsplit(url).netloc,
        "content-type": _JSON,
        "content-length": str(len(body)),
        **(headers or {}),
    }
    try:
        answered = await outward.post(url, body, sent)
    except (ForbiddenAddressError, UnicodeError) as error:
        # The latter: a name that no name server could be asked for.
        raise UndeliveredError(str(error), passing=False) from error
    except (OSError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        why = "a certificate that is not believed" if isinstance(error, ssl.SSLError) else type(error).__name__
        raise UndeliveredError(f"{host} cannot be reached: {why} {error}"[:300].rstrip(), passing=True) from error
    if not 200 <= answered.status < 300:
        passing = passes(answered.status)
        raise UndeliveredError(f"{host} answered {answered.status}", passing=passing, asked_s=answered.retry_after_s)
