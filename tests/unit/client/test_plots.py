"""Pictures without matplotlib, and of nothing."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import typer
from infermesh.client.cli.plots import plot_path, write_plot
from infermesh.router.v1.ab_test_pb2 import AbTest


def test_a_picture_is_a_png_or_an_svg() -> None:
    assert plot_path("a.SVG") == Path("a.SVG")
    with pytest.raises(typer.BadParameter, match=r"\.png or \.svg"):
        plot_path("a.jpeg")


def test_missing_matplotlib_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    test = AbTest(name="forest")
    test.results.comparisons.add(metric="ctr", difference_low=-1, difference_high=1)
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(typer.BadParameter, match="install it, or leave out --plot"):
        write_plot(test, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
