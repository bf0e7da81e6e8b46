"""What every service that tells people can be told."""

from typing import Literal

from pydantic import Field, SecretStr

from services.common.delivery.mail import MailServer
from services.common.settings import ServiceSettings


class TellingSettings(ServiceSettings):
    """The mail server, and where webhooks may go."""

    smtp_host: str = ""
    """The mail server that takes notifications. Empty: none, and what asks for e-mail is refused."""
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is protected: begun in the clear and turned into TLS, TLS from the first byte (usually on port
    465), or not at all, for a relay on the same machine."""
    smtp_user: str = ""
    """As whom to log in. Empty: without."""
    smtp_password: SecretStr = SecretStr("")
    mail_from: str = ""
    """The From address of e-mail, for instance "infermesh <mesh@example.com>"."""
    webhook_private: bool = False
    """Whether webhooks may go to private addresses, and without TLS. Link-local and metadata addresses never."""

    def mail_server(self) -> MailServer | None:
        """The mail server; None where there is none."""
        if not self.smtp_host:
            return None
        return MailServer(
            host=self.smtp_host,
            port=self.smtp_port,
            security=self.smtp_security,
            sender=self.mail_from,
            user=self.smtp_user,
            password=self.smtp_password.get_secret_value(),
        )

    def mail_fault(self) -> str:
        """What of the mail server does not fit together, as a sentence without any secret; empty: nothing."""
        prefix = str(self.model_config.get("env_prefix", ""))
        if self.smtp_host and "@" not in self.mail_from:
            return f"{prefix}SMTP_HOST is set and {prefix}MAIL_FROM is no address; name where mail is from"
        if self.smtp_user and self.smtp_security == "none":
            return f"{prefix}SMTP_SECURITY is none, which would send a password in the clear; use starttls or tls"
        return ""
