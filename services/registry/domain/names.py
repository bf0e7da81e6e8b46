"""What an alias may be called, and what may stand where a version is asked for."""

from services.common.errors import MeshError, invalid
from services.common.names import SemanticVersion, check_model_name

LATEST = "latest"
_ALLOWED = "1 to 63 of a-z, 0-9, '-' and '_', beginning and ending with a letter or digit, without '--'"


def check_alias(alias: str, field: str = "alias") -> str:
    """`alias` itself. Raises INVALID_FIELD where no alias may be called so."""
    try:
        check_model_name(alias, field)
    except MeshError:
        raise invalid(field, alias, _ALLOWED) from None
    if alias == LATEST or _version(alias) is not None:
        raise invalid(field, alias, "neither 'latest' nor a semantic version, which mean versions themselves")
    return alias


def check_reference(text: str, field: str = "version") -> str:
    """A version with its leading v, "latest", or an alias. Raises INVALID_FIELD where it can be none of them."""
    version = _version(text)
    if version is not None:
        return version
    if text == LATEST:
        return text
    try:
        return check_alias(text, field)
    except MeshError:
        raise invalid(field, text, "a semantic version such as v1.2.3, 'latest', or an alias of the model") from None


def _version(text: str) -> str | None:
    try:
        return str(SemanticVersion.parse(text))
    except MeshError:
        return None
