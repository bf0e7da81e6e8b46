"""Every `infermesh` command that the documents show exists, with the options that they show."""

import re
import shlex

import pytest
from infermesh.client.cli.app import build_app
from typer.testing import CliRunner

from services.supervisor.settings import ROOT

DOCUMENTS = ("README.md", "docs/using.md", "examples/iris/train.py")
_SEPARATORS = {"|", "||", "&&", ";", ">"}


def commands(text: str) -> list[list[str]]:
    """The arguments of each command line that begins, or goes on after a pipe, with `infermesh`."""
    found = []
    for line in re.findall(r"^(?:\$ |.*\| )?infermesh (.+)$", text.replace("\\\n", ""), flags=re.MULTILINE):
        words = shlex.split(line, comments=True)
        end = next((place for place, word in enumerate(words) if word in _SEPARATORS), len(words))
        found.append(words[:end])
    return found


ALL = [(name, words) for name in DOCUMENTS for words in commands((ROOT / name).read_text())]


@pytest.mark.parametrize(("document", "words"), ALL, ids=lambda item: item if isinstance(item, str) else " ".join(item))
def test_it_exists(document: str, words: list[str]) -> None:
    # --help is answered before arguments are judged, and after every option was recognised.
    result = CliRunner().invoke(build_app(), [*words, "--help"])
    assert result.exit_code == 0, f"{document}: infermesh {' '.join(words)}\n{result.output}"


def test_the_walk_covers_the_commands() -> None:
    shown = {words[0] for _, words in ALL}
    every = {
        "status",
        "models",
        "register",
        "deploy",
        "undeploy",
        "deployments",
        "predict",
        "traffic",
        "batch",
        "metrics",
        *("rollback", "canary", "ab-test", "shadow", "outcomes", "alerts"),
    }
    assert shown >= every


@pytest.mark.parametrize("words", [["nonsense"], ["traffic", "nonsense"], ["deploy", "m", "v1.0.0", "--nonsense"]])
def test_what_does_not_exist_would_be_noticed(words: list[str]) -> None:
    assert CliRunner().invoke(build_app(), [*words, "--help"]).exit_code == 2


def test_the_version_is_told_without_a_command() -> None:
    result = CliRunner().invoke(build_app(), ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"infermesh \d+\.\d+\.\d+\n", result.output)
