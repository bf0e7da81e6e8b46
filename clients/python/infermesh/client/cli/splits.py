"""Shares of traffic as people type them: VERSION=PERCENT."""

import re
from collections.abc import Sequence

import typer

_SHARE = re.compile(r"([^=\s]+)=(\d{1,3})%?")


def parse_split(shares: Sequence[str], option: str) -> dict[str, int]:
    """Whole percent by version. Raises typer.BadParameter for what is no share, and for shares that are not 100."""
    split: dict[str, int] = {}
    for share in shares:
        match = _SHARE.fullmatch(share.strip())
        if match is None or int(match[2]) > 100:
            raise typer.BadParameter(
                f"{share!r} is no share of traffic; say VERSION=PERCENT with a whole number from 0 to 100, "
                "for instance v1.0.0=90",
                param_hint=option,
            )
        version = match[1] if match[1].startswith("v") else f"v{match[1]}"
        if version in split:
            raise typer.BadParameter(f"{version} has two shares; give it one", param_hint=option)
        split[version] = int(match[2])
    total = sum(split.values())
    if total != 100:
        raise typer.BadParameter(f"the shares add up to {total}; they must add up to 100", param_hint=option)
    return split
