"""Outcomes as people have them in files: JSON Lines or CSV, read row by row, since there may be millions.

A line of JSON is an outcome as the REST API has it: {"request_id": …, "ground_truth": …, "metrics": {…}}, with
`instance_index` and `observed_time` where they matter. In CSV the columns of these names mean the same, `truth` is
short for ground_truth and `instance` for instance_index, and every other column is a metric. Empty cells
are not reported.
"""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

import typer
from google.protobuf.json_format import ParseDict, ParseError
from infermesh.client.cli.quantities import parse_moment, parse_number
from infermesh.client.outcomes import outcome
from infermesh.monitor.v1 import outcome_pb2

OPTION = "--file"
_SHORT = {"truth": "ground_truth", "instance": "instance_index"}


def read_outcomes(path: str) -> Iterator[outcome_pb2.Outcome]:
    """The outcomes of a file, "-" for JSON Lines on standard input. Raises typer.BadParameter naming the line."""
    if path == "-":
        yield from _json_lines(sys.stdin, "standard input")
        return
    file = Path(path).expanduser()
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield from _csv_rows(stream, path) if file.suffix.lower() == ".csv" else _json_lines(stream, path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise typer.BadParameter(f"cannot read {path}: {reason}", param_hint=OPTION) from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text (byte {error.start})", param_hint=OPTION) from None


def parse_truth(text: str) -> str | float | bool:
    """What was true: a number or yes and no where it is JSON of that kind, else the text itself, a class's name."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str | int | float) else text


def _json_lines(stream: TextIO, source: str) -> Iterator[outcome_pb2.Outcome]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        where = f"line {number} of {source}"
        try:
            document: object = json.loads(line)
        except ValueError as error:
            raise typer.BadParameter(f"{where} is no JSON: {error}", param_hint=OPTION) from None
        if not isinstance(document, dict):
            raise typer.BadParameter(f"{where} must be a JSON object", param_hint=OPTION)
        made = outcome_pb2.Outcome()
        try:
            ParseDict({_SHORT.get(str(name), str(name)): value for name, value in document.items()}, made)
        except ParseError as error:
            raise typer.BadParameter(f"{where} is no outcome: {error}", param_hint=OPTION) from None
        yield _checked(made, where)


def _csv_rows(stream: TextIO, source: str) -> Iterator[outcome_pb2.Outcome]:
    reader = csv.DictReader(stream)
    for row in reader:
        where = f"line {reader.line_num} of {source}"
        if None in row or None in row.values():
            raise typer.BadParameter(f"{where} has another number of cells than its header", param_hint=OPTION)
        cells = {_SHORT.get(name.strip(), name.strip()): text.strip() for name, text in row.items() if text.strip()}
        try:
            yield _checked(_outcome(cells), where)
        except typer.BadParameter as fault:
            message = fault.message if fault.message.startswith(where) else f"{where}: {fault.message}"
            raise typer.BadParameter(message, param_hint=OPTION) from None


def _outcome(cells: Mapping[str, str]) -> outcome_pb2.Outcome:
    known = {"request_id", "ground_truth", "instance_index", "observed_time"}
    place = cells.get("instance_index", "0")
    if not place.isdecimal():
        raise typer.BadParameter(f"{place!r} is no instance; it is the place of the row in its request, from 0")
    return outcome(
        cells.get("request_id", ""),
        truth=parse_truth(cells["ground_truth"]) if "ground_truth" in cells else None,
        metrics={
            name: parse_number(text, OPTION, what=f"a number, which the metric {name} must be")
            for name, text in cells.items()
            if name not in known
        },
        instance=int(place),
        observed=parse_moment(cells["observed_time"], OPTION) if "observed_time" in cells else None,
    )


def _checked(made: outcome_pb2.Outcome, where: str) -> outcome_pb2.Outcome:
    if not made.request_id:
        raise typer.BadParameter(f"{where} has no request_id", param_hint=OPTION)
    if not made.HasField("ground_truth") and not made.metrics:
        raise typer.BadParameter(f"{where} says neither what was true nor any metric", param_hint=OPTION)
    return made
