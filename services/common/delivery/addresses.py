"""Which addresses people may give: mailboxes, and URLs that may be called."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from services.common.delivery.outside import forbidden
from services.common.errors import invalid

URL_MAX = 2048
ADDRESS_MAX = 254
# What an address may be is wider than this (quoted parts, comments); what people have is not, and nothing of it can end
# a header.
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


def check_address(address: str, field: str) -> str:
    """An e-mail address. Raises INVALID_FIELD."""
    if len(address) > ADDRESS_MAX or not _MAILBOX.fullmatch(address):
        raise invalid(field, address, "an e-mail address such as ann@example.com")
    return address


def check_url(url: str, field: str, *, private_allowed: bool, shown: str | None = None) -> str:
    """A URL that may be called; `shown` is what errors name in its place where it is a secret. Raises INVALID_FIELD."""
    named = url if shown is None else shown
    schemes = ("https", "http") if private_allowed else ("https",)
    allowed = f"{' or '.join(f'{scheme}://' for scheme in schemes)} and a host, without a name or password in it"
    if not private_allowed:
        allowed += " (http:// and private addresses where the setting WEBHOOK_PRIVATE of the service allows them)"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        # What no name server could be asked for: empty labels, and longer ones than there may be.
        (host or "").encode("idna")
    except ValueError:
        raise invalid(field, named, allowed) from None
    if not host or parts.scheme not in schemes or parts.username is not None or parts.password is not None:
        raise invalid(field, named, allowed)
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url or parts.fragment:
        raise invalid(field, named, f"at most {URL_MAX} ASCII characters without spaces and without a fragment")
    try:
        why = forbidden(ip_address(host), private_allowed=private_allowed)
    except ValueError:
        # A name: what it means is looked at whenever it is called.
        return url
    if why:
        raise invalid(field, named, f"an address that may be called; {host} {why}")
    return url
