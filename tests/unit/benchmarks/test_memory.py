"""Memory over time, and how it is drawn."""

import os
import xml.etree.ElementTree as ET

import pytest

from benchmarks.memory import columns, growth, resident_mib
from benchmarks.parts.soak import judge
from benchmarks.plot import line_plot, sparkline


def test_the_settling_is_not_judged() -> None:
    assert growth([1.0] * 20 + [100.0] * 80) == 0.0


def test_a_leak_is_seen_whatever_single_samples_say() -> None:
    leaking = [100.0 + number for number in range(100)]
    assert growth(leaking) == pytest.approx((191.5 - 127.5) / 127.5)
    assert growth([100.0] * 50 + [5000.0] + [100.0] * 49) == 0.0


def test_five_in_a_hundred_are_allowed_and_shrinking_too() -> None:
    assert judge("batcher", [100.0] * 60 + [104.9] * 40).met
    assert not judge("batcher", [100.0] * 60 + [106.0] * 40).met
    assert judge("batcher", [100.0] * 60 + [50.0] * 40).met


@pytest.mark.parametrize(("samples", "said"), [([1.0] * 9, "too few"), ([1.0] * 9 + [0.0], "gone")])
def test_what_says_nothing_is_refused(samples: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        growth(samples)


def test_memory_is_read_from_the_kernel() -> None:
    assert 5 < resident_mib(os.getpid()) < 100_000
    assert resident_mib(2**22 + 1) == 0.0


def test_a_process_that_a_sample_lacks_held_nothing() -> None:
    assert columns([{"a": 1.0}, {"a": 2.0, "b": 3.0}]) == {"a": [1.0, 2.0], "b": [0.0, 3.0]}


def test_a_sparkline_begins_at_zero_and_ends_at_the_largest() -> None:
    assert sparkline([0.0, 4.0, 8.0]) == "▁▅█"
    assert sparkline([5.0] * 1000, width=7) == "█" * 7
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "▁▁"


def test_a_plot_is_a_line_for_each_series_within_its_frame() -> None:
    drawn = line_plot(
        "A & B", x_label="minutes", y_label="MiB", x=[0.0, 1.0, 2.0], series={"a": [0, 5, 10], "b<": [1, 1, 1]}
    )
    root = ET.fromstring(drawn)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    points = [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in lines]
    assert [len(line) for line in points] == [3, 3]
    # Ten is the top of the axis and zero its foot.
    assert points[0][0] == (64.0, 316.0)
    assert points[0][2] == (660.0, 40.0)
    assert "A &amp; B" in drawn


def test_a_plot_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="two points and a series"):
        line_plot("", x_label="", y_label="", x=[1.0], series={"a": [1.0]})
