"""Usage for people: entries added up by what one asks for, with what they cost."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from infermesh.client.cli.figures import count
from infermesh.client.cli.output import facts, table, when
from infermesh.monitor.v1 import model_metrics_pb2
from rich.console import RenderableType
from rich.markup import escape

_FIGURES = ("requests", "predictions", "compute", "GPU", "GB·h")
_SMALL = 0.01


@dataclass(slots=True)
class Sums:
    """What some entries add up to."""

    requests: float = 0.0
    predictions: float = 0.0
    serving_seconds: float = 0.0
    compute_seconds: float = 0.0
    gpu_seconds: float = 0.0
    stored_gb_hours: float = 0.0
    cost: float = 0.0

    @property
    def cost_per_1000(self) -> float:
        """For each 1,000 predictions; 0 where none were made."""
        return self.cost * 1000 / self.predictions if self.predictions else 0.0


@dataclass
class Shown:
    """Sums by the names of a line, in the order in which they come."""

    columns: tuple[str, ...]
    lines: dict[tuple[str, ...], Sums] = field(default_factory=dict)

    def add(self, names: tuple[str, ...], part: Sums) -> None:
        """Adds what an entry says."""
        sums = self.lines.setdefault(names, Sums())
        for name in Sums.__dataclass_fields__:
            setattr(sums, name, getattr(sums, name) + getattr(part, name))

    def as_json(self) -> list[dict[str, object]]:
        """As the REST API would print it."""
        return [
            {
                **dict(zip(self.columns, names, strict=True)),
                "request_count": sums.requests,
                "prediction_count": sums.predictions,
                "serving_seconds": sums.serving_seconds,
                "compute_seconds": sums.compute_seconds,
                "gpu_seconds": sums.gpu_seconds,
                "stored_gb_hours": sums.stored_gb_hours,
                "cost": sums.cost,
                "cost_per_1000_predictions": sums.cost_per_1000,
            }
            for names, sums in self.lines.items()
        ]


def by_name(entries: Iterable[model_metrics_pb2.TeamUsage], *, versions: bool) -> Shown:
    """Entries by team and model, and by version where that is wanted."""
    shown = Shown(("team_name", "model_name", *(("version",) if versions else ())))
    for one in entries:
        names = (one.team_name, one.model_name, *((one.version,) if versions else ()))
        shown.add(
            names,
            Sums(
                one.request_count,
                one.prediction_count,
                one.serving_seconds,
                one.compute_seconds,
                one.gpu_seconds,
                one.stored_gb_hours,
                one.cost,
            ),
        )
    return shown


def by_day(pieces: Iterable[bytes]) -> Shown:
    """The lines of an export by UTC day and team."""
    shown = Shown(("day", "team_name"))
    for row in csv.DictReader(_lines(pieces)):
        shown.add(
            (row["hour"][: len("2026-01-31")], row["team"]),
            Sums(
                float(row["requests"]),
                float(row["predictions"]),
                float(row["serving_seconds"]),
                float(row["compute_seconds"]),
                float(row["gpu_seconds"]),
                float(row["stored_gb_hours"]),
                float(row["cost"]),
            ),
        )
    return shown


def usage_shown(shown: Shown, currency: str) -> RenderableType:
    """A table with a line for all of it; what it costs, in the currency, in all and for each 1,000 predictions."""
    if not shown.lines:
        return "[dim]nothing was used, and nothing stored, in that time[/]"
    heads = [column.removesuffix("_name") for column in shown.columns]
    costs = (escape(currency), "per 1,000") if currency else ()
    made = table(*heads, *_FIGURES, *costs, right=(*_FIGURES, *costs), whole=heads)
    total = Sums()
    for names, sums in shown.lines.items():
        made.add_row(*[escape(name) or "[dim]none[/]" for name in names], *_figures(sums, currency))
        for name in Sums.__dataclass_fields__:
            setattr(total, name, getattr(total, name) + getattr(sums, name))
    made.add_section()
    made.add_row("[bold]all[/]", *[""] * (len(heads) - 1), *_figures(total, currency))
    return made


def prices_shown(prices: model_metrics_pb2.PriceTable) -> RenderableType:
    """The price table."""
    if not prices.HasField("updated_at"):
        return "[dim]no prices are set; `infermesh prices set --currency EUR --per-1000-requests 0.02` sets one[/]"

    def price(value: float) -> str:
        return f"{money(value)} {escape(prices.currency)}".strip()

    return facts(
        [
            ("1,000 requests", price(prices.per_1000_requests)),
            ("hour of computing", price(prices.per_compute_hour)),
            ("hour of a GPU", price(prices.per_gpu_hour)),
            ("GB for 30 days", price(prices.per_gb_month)),
            ("changed", when(prices.updated_at)),
            ("etag", prices.etag),
        ]
    )


def money(value: float) -> str:
    """An amount: two decimals, and three digits that count where it is less than a hundredth."""
    return f"{value:.3g}" if 0 < value < _SMALL else f"{value:,.2f}"


def _figures(sums: Sums, currency: str) -> Sequence[str]:
    said = [
        count(sums.requests),
        count(sums.predictions),
        seconds(sums.compute_seconds),
        seconds(sums.gpu_seconds),
        f"{sums.stored_gb_hours:,.3g}" if sums.stored_gb_hours else "",
    ]
    if currency:
        per_1000 = money(sums.cost_per_1000) if sums.predictions else ""
        said += [money(sums.cost), per_1000]
    return said


def seconds(value: float) -> str:
    """A sum of time in the unit that suits it: "4.2 s", "3.1 h"; nothing where there is none."""
    units: Sequence[tuple[float, str]] = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
    for size, unit in units:
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value * 1000:.3g} ms" if value else ""


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a file whose pieces may end anywhere."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (f"{line.decode()}\n" for line in whole)
    if rest:
        yield rest.decode()
