"""E-mail over SMTP."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Literal

import aiosmtplib

from services.common.delivery.letters import UndeliveredError

_PERMANENT = 500
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over, and as whom."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    sender: str
    """The From address, with or without a name before it."""
    user: str = ""
    password: str = ""


class Mailer:
    """Hands letters to one mail server."""

    def __init__(self, server: MailServer, *, tls: ssl.SSLContext, now: Callable[[], datetime]) -> None:
        self._server = server
        self._tls = tls
        self._now = now

    async def send(self, to: Sequence[str], *, subject: str, body: str, letter_id: str) -> None:
        """Hands the letter to the server. Its Message-ID is the same at each try: receivers may drop repeats. Raises
        UndeliveredError."""
        server = self._server
        try:
            await aiosmtplib.send(
                self._written(to, subject, body, letter_id),
                hostname=server.host,
                port=server.port,
                username=server.user or None,
                password=server.password or None,
                use_tls=server.security == "tls",
                start_tls=server.security == "starttls",
                tls_context=self._tls if server.security != "none" else None,
                timeout=_TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refused.code for refused in error.recipients]
            why = f"the mail server refused the address ({codes[0] if codes else 'without a code'})"
            raise UndeliveredError(why, passing=any(code < _PERMANENT for code in codes)) from error
        except aiosmtplib.SMTPAuthenticationError as error:
            # Its words may repeat what was sent.
            why = f"the mail server refused user and password ({error.code}); the operator sets them"
            raise UndeliveredError(why, passing=True) from error
        except aiosmtplib.SMTPResponseException as error:
            why = f"the mail server said {error.code} {error.message[:200]}"
            raise UndeliveredError(why, passing=error.code < _PERMANENT) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise UndeliveredError(f"the mail server did not take it: {error}"[:300], passing=True) from error

    def _written(self, to: Sequence[str], subject: str, body: str, letter_id: str) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._server.sender
        message["To"] = ", ".join(to)
        message["Subject"] = subject
        message["Date"] = format_datetime(self._now())
        _, _, domain = parseaddr(self._server.sender)[1].rpartition("@")
        message["Message-ID"] = f"<{letter_id}@{domain}>"
        # No "out of office" in return.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(body)
        return message
