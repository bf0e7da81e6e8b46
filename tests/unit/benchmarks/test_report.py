"""What is shown and what is written."""

import io

import orjson
from rich.console import Console

from benchmarks.compare import Verdict, summarise
from benchmarks.load import Measured
from benchmarks.report import Machine, PartReport, as_json, cpu_tables, line_table, show
from benchmarks.rounds import Row

ROWS = [
    Row("bare", "bare Triton", "bare", 64, 1, Measured(100.0, 1.0, 2.0, 3.0, 100, 0, {"Triton": 7.0, "h2load": 12.0})),
    Row("batcher", "batcher", "bare", 64, 1, Measured(120.0, 1.5, 2.0, 3.0, 120, 0, {"h2load": 11.0, "tiny": 0.01})),
]


def shown(report: PartReport) -> str:
    text = io.StringIO()
    show(Console(file=text, width=160), report)
    return text.getvalue()


def test_a_part_shows_its_tables_its_notes_and_its_verdicts() -> None:
    report = PartReport(
        "closed",
        "closed loop",
        [line_table("Rows", summarise(ROWS), rows_each=32), *cpu_tables(ROWS)],
        [Verdict(True, "fast"), Verdict(False, "slow")],
        notes=["a note"],
    )
    text = shown(report)
    assert "3,840" in text
    assert "1.20 (1.20–1.20)" in text
    assert "predictions/s" in text
    assert "met   fast" in text
    assert "short slow" in text
    assert "a note" in text


def test_cpu_is_shown_by_what_spent_it_with_its_sum() -> None:
    text = shown(PartReport("one", "one", cpu_tables(ROWS), []))
    assert "CPU of one request in µs, 64 callers" in text
    assert [line.split() for line in text.splitlines() if line.startswith(("h2load", "Triton", "all"))] == [
        ["h2load", "12.0", "11.0"],
        ["Triton", "7.0"],
        ["all", "19.0", "11.0"],
    ]
    assert "tiny" not in text


def test_the_file_holds_everything_that_was_measured() -> None:
    report = PartReport("one", "one caller", [], [Verdict(True, "fast")], ["a note"], {"rows": [1, 2]})
    document = orjson.loads(
        as_json(
            command="python -m benchmarks",
            moment="2026-01-15T12:00:00+00:00",
            machine=Machine("a CPU", 2, "Linux", 0.1),
            reports=[report],
        )
    )
    assert document["machine"]["cores"] == 2
    assert document["parts"] == [
        {
            "part": "one",
            "title": "one caller",
            "verdicts": [{"met": True, "text": "fast"}],
            "notes": ["a note"],
            "rows": [1, 2],
        }
    ]
