"""Headers (gRPC metadata keys) that traffic rules may look at."""

import re

from services.common.errors import invalid

_HEADER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_INSIDE_ONLY = ("x-mesh-", "x-infermesh-", "x-envoy-", "x-route-")
"""Headers of the mesh itself: what callers send under these names never gets as far as the rules."""


def check_header(name: str, field: str) -> str:
    """`name` itself. Raises INVALID_FIELD where no caller can send a header of that name."""
    if _HEADER.fullmatch(name) is None:
        raise invalid(field, name, "a header of 1 to 64 of a-z, 0-9, '_' and '-', such as \"x-user-id\"")
    if name.startswith(_INSIDE_ONLY):
        raise invalid(field, name, "a header that callers send; the gateway removes this one from what they send")
    return name
