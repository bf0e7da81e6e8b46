"""How servers that are not the mesh's own are spoken to: by whose certificates, and with which token."""

from dataclasses import dataclass, field

from services.common.outside_credentials import Credentials
from services.common.outside_tls import OutsideTls
from services.common.server_address import ServerAddress


@dataclass(frozen=True, slots=True)
class Outside:
    """A server of somebody else."""

    at: ServerAddress
    tls: OutsideTls = field(default_factory=OutsideTls)
    """Whose certificates are believed, where it is spoken to by TLS."""
    credential: str = ""
    """What it is shown, as "team/name"; empty: nothing."""
    credentials: Credentials = field(default_factory=Credentials)

    def bearer(self) -> str:
        """The token that it is shown now; empty: none. Raises NoCredentialError."""
        if not self.credential:
            return ""
        return self.credentials.bearer(self.credential, tls=self.at.tls)
