"""How the command's options say that rows of different sizes may share a batch."""

import math
from collections.abc import Sequence

import typer
from infermesh.common.v1 import serving_pb2


def parse_padding(
    values: Sequence[str], *, lengths: str = "", trim: Sequence[str] = (), waste: float | None = None
) -> serving_pb2.Padding | None:
    """`values`: what is filled in, each as NUMBER for all inputs or INPUT=NUMBER for one. None where nothing is said.
    Raises typer.BadParameter."""
    if not (values or lengths or trim or waste is not None):
        return None
    padding = serving_pb2.Padding(lengths_input=lengths, trim_outputs=trim, waste_max=waste)
    for text in values:
        name, _, number = text.rpartition("=")
        value = _number(text, number)
        if name:
            padding.input_values[name] = value
        else:
            padding.value = value
    return padding


def _number(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(
            f"{text!r} is nothing to fill in; say a number, as in 0, or one for an input, as in mask=0",
            param_hint="--pad",
        )
    return value
