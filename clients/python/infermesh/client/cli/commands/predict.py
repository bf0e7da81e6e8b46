"""`infermesh predict`: ask a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from infermesh.client.cli.explained import why
from infermesh.client.cli.instances import Instance, read_instances
from infermesh.client.cli.output import bar, table
from infermesh.client.cli.session import ModelArgument, Session, VersionOption, command
from infermesh.client.predictions import Answer, Prediction
from rich.console import Group, RenderableType
from rich.markup import escape

_CLASSES_SHOWN_MAX = 3
_TEXT_SHOWN_MAX = 60


def add_to(app: typer.Typer) -> None:
    """Registers the command."""

    @command(
        app,
        "predict",
        epilog="""Examples: infermesh predict iris '{"petal_length": 4.9}' · """
        "infermesh predict digits --file rows.jsonl · cat rows.jsonl | infermesh predict digits --json",
    )
    def predict(
        session: Session,
        model: ModelArgument,
        instances: Annotated[
            str | None,
            typer.Argument(
                metavar="[INSTANCES]",
                help="JSON: an object, an array of objects, or a request body; `-` is standard input, `@PATH` a file.",
            ),
        ] = None,
        *,
        file: Annotated[
            Path | None, typer.Option("--file", "-f", metavar="PATH", help="A JSON or JSON Lines file.")
        ] = None,
        version: VersionOption = "",
        explain: Annotated[
            bool, typer.Option("--explain", help="Ask what each feature contributed; takes seconds.")
        ] = False,
    ) -> None:
        """Ask a model about one or more instances.

        Each instance is a JSON object with one key for each feature of the version's input schema
        (`infermesh models show MODEL VERSION` lists them). Without --version the model's traffic rules choose.
        """
        asked = read_instances(instances, file)
        answer = session.client.predict(model, asked, version=version, explain=explain)
        session.output.result(answer.to_dict(), lambda: _drawn(answer, asked))


def _drawn(answer: Answer, asked: Sequence[Instance]) -> RenderableType:
    shown = table("#", "class", "output", "confidence", "", "next", right=["#"])
    for place, item in enumerate(answer.predictions):
        confidence = "" if item.confidence is None else f"{item.confidence:.1%}"
        drawing = "" if item.confidence is None else f"[cyan]{bar(item.confidence, width=10)}[/]"
        shown.add_row(str(place), escape(item.label), _short(item.output), confidence, drawing, _others(item))
    reasons = [
        why(item, instance, place=place)
        for place, (item, instance) in enumerate(zip(answer.predictions, asked, strict=False))
        if item.explanation
    ]
    made_by = f"{escape(answer.model_name)} {answer.model_version}"
    return Group(shown, *reasons, f"[dim]{made_by} · {answer.latency_ms:.1f} ms · {escape(answer.request_id)}[/]")


def _others(item: Prediction) -> str:
    ranked = sorted(item.probabilities.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = [pair for pair in ranked if pair[0] != item.label][: _CLASSES_SHOWN_MAX - 1]
    return "[dim]" + ", ".join(f"{escape(name)} {share:.1%}" for name, share in rest) + "[/]" if rest else ""


def _short(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= _TEXT_SHOWN_MAX else f"{text[: _TEXT_SHOWN_MAX - 1]}…")
