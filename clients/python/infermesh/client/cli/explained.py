"""Why a prediction is what it is, drawn: what each feature contributed, the largest first."""

import re
from collections.abc import Mapping, Sequence

from infermesh.client.cli.output import bar, table
from infermesh.client.predictions import Prediction
from rich.console import Group, RenderableType
from rich.markup import escape

_SHOWN_MAX = 10
_VALUE_SHOWN_MAX = 24
_WIDTH = 16
_ELEMENT = re.compile(r"\[(\d+)\]")


def why(item: Prediction, instance: Mapping[str, object], *, place: int) -> RenderableType:
    """One prediction's explanation: from the baseline, by what its features contributed, to the output."""
    ranked = sorted(item.explanation.items(), key=lambda pair: -abs(pair[1]))
    most = max((abs(value) for _, value in ranked), default=0.0) or 1.0
    shown = table("feature", "value", "", "contribution", right=["contribution"])
    for name, value in ranked[:_SHOWN_MAX]:
        shown.add_row(escape(name), _given(instance, name), _drawn(value / most), f"{value:+.4g}")
    rest = ranked[_SHOWN_MAX:]
    if rest:
        shown.add_row(f"[dim]{len(rest)} more[/]", "", "", f"[dim]{sum(value for _, value in rest):+.4g}[/]")
    baseline = item.explanation_baseline or 0.0
    total = baseline + sum(item.explanation.values())
    what = f"the probability of {escape(item.label)}" if item.probabilities else "the output"
    return Group("", f"#{place}: {what} is {total:.4g}; on average over the reference sample {baseline:.4g}", shown)


def _drawn(share: float) -> str:
    """A bar to the right of the middle for what raises the output, to the left for what lowers it."""
    filled = bar(abs(share), width=_WIDTH // 2)
    if share >= 0:
        return f"{' ' * (_WIDTH // 2)}│[green]{filled.ljust(_WIDTH // 2)}[/]"
    # Eighths grow from the left; to the left of the middle whole blocks must do.
    blocks = "█" * max(1, round(abs(share) * _WIDTH / 2)) if share else ""
    return f"[red]{blocks.rjust(_WIDTH // 2)}[/]│{' ' * (_WIDTH // 2)}"


def _given(instance: Mapping[str, object], name: str) -> str:
    """The feature's value in the instance; empty where it was left out."""
    value: object = instance.get(name)
    if value is None and name not in instance:
        value = _element(instance, name)
    text = "" if value is None else str(value)
    return escape(text if len(text) <= _VALUE_SHOWN_MAX else f"{text[: _VALUE_SHOWN_MAX - 1]}…")


def _element(instance: Mapping[str, object], name: str) -> object:
    """The element that a name such as "X[3]" means, where it is given in the nesting of the name."""
    value: object = instance.get(name.partition("[")[0])
    for place in _ELEMENT.findall(name):
        if not isinstance(value, Sequence) or isinstance(value, str) or int(place) >= len(value):
            return None
        value = value[int(place)]
    return value if isinstance(value, int | float | str) else None
