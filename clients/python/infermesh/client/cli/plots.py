"""An A/B test's intervals as a picture, PNG or SVG, for a page or a message. Drawn by matplotlib, without a display."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from infermesh.client.cli.ab_test_views import is_known
from infermesh.client.cli.figures import count, figure, is_share, unit
from infermesh.client.cli.intervals import axis, bound
from infermesh.router.v1 import ab_test_pb2

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".png", ".svg")
_OPTION = "--plot"
_COLOURS = {"better": "#1a7f37", "worse": "#cf222e", "no_difference": "#57606a", "waiting": "#9a6700"}
_WIDTH_IN = 8.0
_ROW_IN = 1.15
_HEAD_IN = 1.0
_DPI = 150


def plot_path(text: str) -> Path:
    """The file to write. Raises typer.BadParameter where its ending is none of a picture."""
    path = Path(text).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"{text!r} is no picture; the name must end in .png or .svg", param_hint=_OPTION)
    return path


def write_plot(test: ab_test_pb2.AbTest, path: Path) -> None:
    """Draws each comparison that has an interval, on a scale of its own, with 0 marked.

    Raises typer.BadParameter where there is nothing to draw, matplotlib is missing, or the file cannot be written.
    """
    comparisons = [
        one
        for one in test.results.comparisons
        if is_known(one.difference_low, one.difference_high) or is_known(one.sequential_low, one.sequential_high)
    ]
    if not comparisons:
        raise typer.BadParameter(
            f"{test.name} has no intervals yet: {test.results.conclusion or 'too few samples'}", param_hint=_OPTION
        )
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - large, and few commands draw
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise typer.BadParameter(
            "pictures need matplotlib, which is not installed: install it, or leave out --plot", param_hint=_OPTION
        ) from None
    drawing = Figure(figsize=(_WIDTH_IN, _HEAD_IN + _ROW_IN * len(comparisons)), layout="constrained")
    FigureCanvasAgg(drawing)
    drawing.suptitle(_title(test), fontsize=11, x=0.02, ha="left")
    panels = drawing.subplots(len(comparisons), 1, squeeze=False)
    for panel, comparison in zip(panels[:, 0], comparisons, strict=True):
        _draw(panel, comparison, test.results.control)
    try:
        drawing.savefig(path, dpi=_DPI)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise typer.BadParameter(f"cannot write {path}: {reason}", param_hint=_OPTION) from None


def _title(test: ab_test_pb2.AbTest) -> str:
    conclusion = test.results.conclusion
    second = conclusion if len(conclusion) <= 100 else f"{conclusion[:99]}…"
    return f"{test.model_name} · {test.name} · {test.status}\n{second}".rstrip()


def _draw(panel: "Axes", one: ab_test_pb2.AbTestComparison, control: str) -> None:
    scale = 100.0 if is_share(one.metric) else 1.0
    colour = _COLOURS.get(one.verdict, _COLOURS["no_difference"])
    difference = (one.version_value - one.control_value) * scale
    rows = [
        (height, bound(low) * scale, bound(high) * scale, line_width, name)
        for height, low, high, line_width, name in (
            (1.0, one.difference_low, one.difference_high, 4.0, "95 %"),
            (0.0, one.sequential_low, one.sequential_high, 1.8, "sequential"),
        )
        if is_known(low, high)
    ]
    # An interval may have one end at infinity: it is drawn up to the edge.
    span = axis([0.0, difference, *(end for _, low, high, *_ in rows for end in (low, high))], width=2)
    for height, low, high, line_width, _ in rows:
        ends = [max(low, span.low), min(high, span.high)]
        panel.plot(ends, [height, height], color=colour, lw=line_width, solid_capstyle="butt")
        panel.plot([difference], [height], "o", color=colour, ms=line_width + 3.0)
    panel.set_xlim(span.low, span.high)
    panel.set_ylim(-0.7, 1.7)
    panel.set_yticks([height for height, *_ in rows], [name for *_, name in rows], fontsize=8)
    panel.axvline(0.0, color="#24292f", lw=1.0)
    panel.grid(axis="x", color="#d0d7de", lw=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(axis="x", labelsize=8)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.tick_params(axis="y", length=0)
    unit_text = f" ({unit(one.metric)})" if unit(one.metric) else ""
    panel.set_title(
        f"{one.metric}{unit_text}: {one.version} − {control} = {figure(one.metric, difference / scale, signed=True)}, "
        f"{one.verdict.replace('_', ' ')} · {count(one.version_samples)} and {count(one.control_samples)} samples",
        fontsize=9,
        loc="left",
    )
