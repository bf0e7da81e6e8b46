"""Which answers the rules of their time allowed."""

import pytest

from benchmarks.traffic_changes import Answer, Change, allowed

OLD, NEW = "v1.0.0", "v1.1.0"
CHANGES = (
    Change(0.0, 1.0, frozenset({OLD}), ""),
    Change(10.0, 11.0, frozenset({NEW}), ""),
    Change(20.0, 21.0, frozenset({OLD}), NEW),
)
CALLED_S = [change.called_s for change in CHANGES]


@pytest.mark.parametrize(
    ("asked_s", "answered_s", "in_region", "version", "expected"),
    [
        (5.0, 6.0, False, OLD, True),
        (5.0, 6.0, False, NEW, False),
        # While a change is under way, both are right.
        (10.2, 10.8, False, OLD, True),
        (10.2, 10.8, False, NEW, True),
        # A question that was put before the change's answer may still have met the rule before.
        (10.9, 12.0, False, OLD, True),
        (11.1, 12.0, False, OLD, False),
        (5.0, 15.0, False, OLD, True),
        # The condition, once it holds, decides alone.
        (22.0, 23.0, True, NEW, True),
        (22.0, 23.0, True, OLD, False),
        (22.0, 23.0, False, OLD, True),
        (22.0, 23.0, False, NEW, False),
    ],
)
def test_what_the_rules_allowed(
    asked_s: float, answered_s: float, *, in_region: bool, version: str, expected: bool
) -> None:
    assert allowed(Answer(asked_s, answered_s, in_region, version), CHANGES, CALLED_S) is expected
