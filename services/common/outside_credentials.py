"""What is shown to servers that are not the mesh's own: bearer tokens that operators keep in files.

Deployments say no token but a name, and what is read for it is the file of that name in the folder of the team that
owns the model. So a token is in no request, row, log or error of the mesh, and no team has another's sent. Files are
looked at before each use: one that changes, as mounted Secrets do, is taken up at once.
"""

import re
from pathlib import Path

VARIABLE = "INFERMESH_EXTERNAL_CREDENTIALS"
"""The setting that names the folder, of deployer and batcher alike."""
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
"""What a credential may be called."""

_TEAM = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_TOKEN = re.compile(rb"[\x21-\x7e]+")
_BYTES_MAX = 16_384
_State = tuple[int, int, int]


class NoCredentialError(Exception):
    """There is nothing to show. The text says what is missing and never what is there."""


def credential_of(team: str, name: str) -> str:
    """What a credential is called between services: team/name, of nobody's models /name. Empty where there is no
    name."""
    return f"{team}/{name}" if name else ""


class Credentials:
    """Those in a folder."""

    def __init__(self, folder: str = "") -> None:
        """`folder`: has a folder for each team; empty: there are none."""
        self._folder = folder
        self._read: dict[str, tuple[_State, str]] = {}

    def bearer(self, credential: str, *, tls: bool) -> str:
        """The token that `credential`, of `credential_of`, names, for a server that is spoken to by `tls`: to no other
        is it shown. Raises NoCredentialError."""
        if not tls:
            raise NoCredentialError("a credential is shown by TLS alone; name the server with the scheme for that")
        team, _, name = credential.rpartition("/")
        if not NAME.fullmatch(name) or not (team == "" or _TEAM.fullmatch(team)):
            raise NoCredentialError(f"{credential!r} cannot name a credential")
        whose = f"team {team!r}" if team else "models that are no team's"
        if not self._folder:
            raise NoCredentialError(
                f"no credential {name!r} of {whose} is kept here; have an operator of the mesh set {VARIABLE} for "
                "deployer and batchers"
            )
        path = Path(self._folder, team, name)
        try:
            found = path.stat()
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
            known = self._read.get(credential)
            if known is None or known[0] != state:
                known = self._read[credential] = (state, _token(path))
        except (OSError, ValueError) as error:
            self._read.pop(credential, None)
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise NoCredentialError(
                f"credential {name!r} of {whose} cannot be read ({why}); have an operator of the mesh put the token "
                f"into the file {credential.lstrip('/')!r} of the folder {VARIABLE}, for deployer and batchers"
            ) from None
        return known[1]


def without(token: str, words: str) -> str:
    """What a server said, without the token that it was shown: some say in their errors what they got."""
    return words.replace(token, "[credential]") if token else words


def _token(path: Path) -> str:
    """Raises OSError, ValueError."""
    with path.open("rb") as file:
        token = file.read(_BYTES_MAX + 1).strip()
    if len(token) > _BYTES_MAX or not _TOKEN.fullmatch(token):
        raise ValueError(f"it is not one line of printable ASCII without blanks, at most {_BYTES_MAX} bytes")
    return token.decode("ascii")
