"""A plot as an SVG file, and as a line of blocks for the terminal."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 200, 40, 44
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7d5ba6", "#8a6d3b", "#444444")
_BLOCKS = "▁▂▃▄▅▆▇█"
_TICKS = 5


def sparkline(values: Sequence[float], *, width: int = 60) -> str:
    """The course of the values from zero to the largest, in at most `width` blocks, each the mean of its stretch."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(place * len(values) / count) for place in range(count + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]
    most = max(means)
    if most <= 0:
        return _BLOCKS[0] * count
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(mean / most * len(_BLOCKS)))] for mean in means)


def line_plot(
    title: str, *, x_label: str, y_label: str, x: Sequence[float], series: Mapping[str, Sequence[float]]
) -> str:
    """One line for each series over the same x, from zero. Raises ValueError where there is nothing to draw."""
    if len(x) < 2 or not series:
        raise ValueError("a plot needs two points and a series")
    x_most, y_most = max(x), _round_up(max(max(values) for values in series.values()))

    def place(at: float, value: float) -> tuple[float, float]:
        across = _LEFT + (at - x[0]) / ((x_most - x[0]) or 1) * (WIDTH - _LEFT - _RIGHT)
        return across, HEIGHT - _BOTTOM - value / y_most * (HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, size=15),
        _text((WIDTH + _LEFT - _RIGHT) / 2, HEIGHT - 8, x_label, anchor="middle"),
        _text(10, _TOP - 8, y_label),
    ]
    for tick in range(_TICKS + 1):
        value, at = y_most * tick / _TICKS, x[0] + (x_most - x[0]) * tick / _TICKS
        _, down = place(x[0], value)
        across, _ = place(at, 0)
        parts += [
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}" stroke="#dddddd"/>',
            _text(_LEFT - 6, down + 4, f"{value:,.0f}", anchor="end"),
            _text(across, HEIGHT - _BOTTOM + 16, f"{at:.4g}", anchor="middle"),
        ]
    for number, (name, values) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*place(at, value)) for at, value in zip(x, values, strict=True))
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
            f'<rect x="{WIDTH - _RIGHT + 14}" y="{_TOP + 20 * number}" width="12" height="4" fill="{colour}"/>',
            _text(WIDTH - _RIGHT + 32, _TOP + 20 * number + 6, name),
        ]
    return "\n".join([*parts, "</svg>\n"])


def _round_up(value: float) -> float:
    """To a number that ticks divide well."""
    if value <= 0:
        return 1.0
    magnitude = float("1" + "0" * (len(str(int(value))) - 1))
    return next(step * magnitude for step in (1, 2, 2.5, 5, 10, 20) if step * magnitude >= value)


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
