"""As much of PromQL as the operator's queries are written in, over what was scraped: sums, the largest, rates, `+`.

What it does not know it refuses, so no query is taken for answered that is not.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_TERM = re.compile(r"(sum|max)\((rate\()?(\w+)\{([^}]*)\}(\[(\d+)m\]\))?\)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Scrape:
    """What an endpoint said, and when, in seconds."""

    at_s: float
    text: str

    def samples(self, name: str, labels: Mapping[str, str]) -> Mapping[tuple[tuple[str, str], ...], float]:
        """The series of that name with these labels, and their values."""
        return {
            tuple(sorted(one.labels.items())): one.value
            for family in text_string_to_metric_families(self.text)
            for one in family.samples
            if one.name == name and labels.items() <= one.labels.items()
        }


def evaluated(query: str, scrapes: Sequence[Scrape]) -> float | None:
    """The value of a query at the last scrape; None where no series answers it, as of an empty vector."""
    terms = [_term(one.strip(), scrapes) for one in query.split(" + ")]
    known = [one for one in terms if one is not None]
    return sum(known) if len(known) == len(terms) else None


def _term(term: str, scrapes: Sequence[Scrape]) -> float | None:
    found = _TERM.fullmatch(term)
    assert found is not None, f"not a query that is known here: {term}"
    how, rate, name, said, window, _ = found.groups()
    assert bool(rate) == bool(window), f"a range vector without a rate, or a rate without one: {term}"
    labels = dict(_LABEL.findall(said))
    values = list(_rates(name, labels, scrapes) if rate else scrapes[-1].samples(name, labels).values())
    if not values:
        return None
    return sum(values) if how == "sum" else max(values)


def _rates(name: str, labels: Mapping[str, str], scrapes: Sequence[Scrape]) -> Sequence[float]:
    """Of series that were there at the first and the last scrape; of one scrape there is no rate."""
    if len(scrapes) < 2:
        return []
    first, last = scrapes[0], scrapes[-1]
    before, after = first.samples(name, labels), last.samples(name, labels)
    return [(after[key] - before[key]) / (last.at_s - first.at_s) for key in after if key in before]
