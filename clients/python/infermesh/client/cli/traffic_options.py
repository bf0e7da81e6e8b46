"""What `traffic set` and `traffic plan` take alike, and the change that they mean."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_share
from infermesh.client.cli.routes import parse_condition, parse_shadow
from infermesh.client.cli.splits import parse_split
from infermesh.router.v1 import traffic_rule_pb2

SHARES = "VERSION=PERCENT"
CLEARABLE = ("conditions", "shadows")
_STRATEGIES = ("random", "weighted", "sticky")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

SharesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar=f"[{SHARES}...]",
        help="The shares, adding up to 100. Without any they stay as they are.",
        show_default=False,
        autocompletion=complete_share,
    ),
]
StickyOption = Annotated[
    bool | None,
    typer.Option(
        "--sticky/--random",
        help="The same user gets the same version, or chance. A header may follow: --sticky x-user-id. Default: as is.",
    ),
]
KeyOption = Annotated[
    str, typer.Option("--key", metavar="HEADER", help="The header that tells users apart. Default: x-user-id.")
]
StrategyOption = Annotated[
    str, typer.Option("--strategy", metavar="NAME", help="random, weighted (the same) or sticky. Default: as is.")
]
WhenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--when",
        metavar="WHO:VERSION",
        help="Requests that get a version of their own, as region=eu:v2.0.0; also user_id, cohort, team, header:NAME; "
        "values with commas between, `*` at the end for what begins so. Repeatable; the first that matches decides.",
    ),
]
ShadowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shadow",
        metavar="VERSION=PERCENT",
        help="A version that gets copies of so much of the traffic. :label, :top_k=5 or :tolerance=0.001 after it says "
        "how answers are compared. Repeatable.",
    ),
]
ClearOption = Annotated[
    list[str] | None,
    typer.Option("--clear", metavar="LIST", help="Empty `conditions` or `shadows`. Repeatable."),
]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a model's traffic, in the arguments of `Traffic.set`."""

    split: dict[str, int] | None
    strategy: str
    sticky_key_header: str
    conditions: Sequence[traffic_rule_pb2.RouteCondition]
    shadows: Sequence[traffic_rule_pb2.Shadow]
    clear: Sequence[str]


def parse_change(
    shares: Sequence[str] | None,
    *,
    sticky: bool | None,
    key: str,
    strategy: str,
    when: Sequence[str] | None,
    shadow: Sequence[str] | None,
    clear: Sequence[str] | None,
) -> Change:
    """The change that the options mean. Raises typer.BadParameter, also where they mean none."""
    plain, header = _without_header(shares or (), sticky=sticky, key=key)
    cleared = list(dict.fromkeys(clear or ()))
    if unknown := [name for name in cleared if name not in CLEARABLE]:
        raise typer.BadParameter(
            f"{unknown[0]!r} cannot be cleared; say {' or '.join(CLEARABLE)}", param_hint="--clear"
        )
    for option, given, name in (("--when", when, "conditions"), ("--shadow", shadow, "shadows")):
        if given and name in cleared:
            raise typer.BadParameter(f"{name} cannot be both given and cleared; say one of it", param_hint=option)
    made = Change(
        split=parse_split(plain, SHARES) if plain else None,
        strategy=_strategy(strategy, sticky=sticky, header=header),
        sticky_key_header=header,
        conditions=[parse_condition(text) for text in when or ()],
        shadows=[parse_shadow(text) for text in shadow or ()],
        clear=cleared,
    )
    if not (made.split or made.strategy or header or made.conditions or made.shadows or cleared):
        raise typer.BadParameter(
            "nothing to change; say shares as in v1.0.0=90 v1.1.0=10, or an option such as --sticky, --when, --shadow",
            param_hint=SHARES,
        )
    return made


def _without_header(shares: Sequence[str], *, sticky: bool | None, key: str) -> tuple[list[str], str]:
    """The shares alone, and the header that tells users apart: --key, else the word that follows --sticky.

    A share always has "=" and a version dots, so that word is told from them wherever it stands.
    """
    words = [word for word in shares if sticky and _HEADER.fullmatch(word)]
    if not words:
        return list(shares), key.lower()
    if len(words) > 1 or (key and key.lower() != words[0].lower()):
        named = ", ".join([*words, *([key] if key else [])])
        raise typer.BadParameter(f"there are several headers: {named}; say one", param_hint="--sticky")
    return [share for share in shares if share != words[0]], words[0].lower()


def _strategy(strategy: str, *, sticky: bool | None, header: str) -> str:
    flag = "" if sticky is None else "sticky" if sticky else "random"
    if strategy and strategy not in _STRATEGIES:
        raise typer.BadParameter(
            f"{strategy!r} is no strategy; say {', '.join(_STRATEGIES[:-1])} or {_STRATEGIES[-1]}",
            param_hint="--strategy",
        )
    if strategy and flag and (strategy == "sticky") != (flag == "sticky"):
        raise typer.BadParameter(f"--{flag} and --strategy {strategy} contradict; say one", param_hint="--strategy")
    chosen = strategy or flag
    if header and chosen not in {"", "sticky"}:
        raise typer.BadParameter(f"a header decides nothing where the strategy is {chosen}", param_hint="--key")
    return chosen
