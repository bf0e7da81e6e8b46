"""How a file of rows is read, as people say it: what its name and its columns do not."""

from collections.abc import Sequence
from typing import Annotated

import typer

_FEATURE = "--feature"

FormatOption = Annotated[
    str,
    typer.Option("--input-format", metavar="FORMAT", help="parquet, csv or jsonl, where INPUT's name has no ending."),
]
DelimiterOption = Annotated[
    str, typer.Option("--delimiter", metavar="CHARACTER", help="What separates the columns of a CSV. Default: ','.")
]
FeatureOption = Annotated[
    list[str] | None,
    typer.Option(
        _FEATURE, metavar="FEATURE=COLUMN", help="A feature whose column has another name than it. Repeatable."
    ),
]


def read_features(arguments: Sequence[str]) -> dict[str, str]:
    """The column of each feature. Raises typer.BadParameter."""
    found: dict[str, str] = {}
    for argument in arguments:
        feature, _, column = argument.partition("=")
        if not feature or not column:
            raise typer.BadParameter(f"{argument!r} names no column; say FEATURE=COLUMN", param_hint=_FEATURE)
        if feature in found:
            raise typer.BadParameter(f"{feature!r} is given twice", param_hint=_FEATURE)
        found[feature] = column
    return found
