"""Who owns which place, under any history of shares."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.merge import effective_shares
from services.router.domain.places import PLACES, counted, in_order, moved_places, owners, proportional
from services.router.domain.rules import Split, with_weights

VERSIONS = tuple(f"v{number}.0.0" for number in range(6))


@st.composite
def weights(draw: st.DrawFn, versions: Sequence[str] = VERSIONS) -> Mapping[str, int]:
    """Whole percentages of some versions that add up to 100; some may be 0."""
    named = draw(st.lists(st.sampled_from(versions), min_size=1, max_size=len(versions), unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, PLACES), min_size=len(named) - 1, max_size=len(named) - 1)))
    bounds = [0, *cuts, PLACES]
    return {version: bounds[at + 1] - bounds[at] for at, version in enumerate(named)}


def history(steps: Sequence[Mapping[str, int]]) -> list[Split]:
    """A split for each step, each made from the one before."""
    splits = [Split(steps[0])]
    for step in steps[1:]:
        splits.append(with_weights(splits[-1], step))
    return splits


@given(st.lists(weights(), min_size=1, max_size=12))
def test_shares_are_what_was_asked_for_and_add_up(steps: list[Mapping[str, int]]) -> None:
    for split, asked in zip(history(steps), steps, strict=True):
        assert counted(split.runs) == {version: weight for version, weight in asked.items() if weight}
        assert split.positive == counted(split.runs)
        assert sum(run.percent for run in split.runs) == PLACES


@given(st.lists(weights(), min_size=2, max_size=12))
def test_who_grows_or_stays_keeps_every_place_and_no_more_move_than_must(steps: list[Mapping[str, int]]) -> None:
    splits = history(steps)
    for before, after in pairwise(splits):
        had, has = before.positive, after.positive
        for was, now in zip(owners(before.runs), owners(after.runs), strict=True):
            assert was == now or (has.get(was, 0) < had[was] and has[now] > had.get(now, 0))
        assert moved_places(before.runs, after.runs) == sum(
            max(0, weight - had.get(version, 0)) for version, weight in has.items()
        )


@given(st.lists(weights(), min_size=2, max_size=12))
def test_a_change_opens_few_runs(steps: list[Mapping[str, int]]) -> None:
    splits = history(steps)
    for before, after in pairwise(splits):
        assert all(left.version != right.version for left, right in pairwise(after.runs))
        had, has = before.positive, after.positive
        others = [version for version in {**had, **has} if had.get(version, 0) != has.get(version, 0)]
        assert len(after.runs) <= len(before.runs) + max(0, len(others) - 1)


@given(st.lists(weights(VERSIONS[:2]), min_size=1, max_size=12))
def test_two_versions_have_a_run_each_whatever_happened(steps: list[Mapping[str, int]]) -> None:
    for split in history(steps):
        assert len(split.runs) == len(split.positive)


@given(weights(VERSIONS[1:]), st.lists(st.integers(1, PLACES - 1), min_size=1, max_size=8), st.data())
def test_a_canary_gives_and_gets_the_same_places(
    base: Mapping[str, int], percents: list[int], data: st.DataObject
) -> None:
    """At the same percentage it has the same places, whatever was between; the others keep their proportions."""
    canary = VERSIONS[0]
    split, seen = Split(base), dict[int, object]()
    for percent in percents:
        rest = scaled(base, PLACES - percent)
        split = with_weights(split, {canary: percent, **rest})
        grown = [place for place, owner in enumerate(owners(split.runs)) if owner == canary]
        if all(rest.values()) or len(base) == 1:
            assert seen.setdefault(percent, grown) == grown or not monotone(base, percents)


def scaled(base: Mapping[str, int], total: int) -> Mapping[str, int]:
    """`base` scaled to `total`."""
    shares = {version: weight * total // PLACES for version, weight in base.items()}
    by_loss = sorted(base, key=lambda version: -(base[version] * total % PLACES))
    for version in by_loss[: total - sum(shares.values())]:
        shares[version] += 1
    return shares


def monotone(base: Mapping[str, int], percents: Sequence[int]) -> bool:
    """Whether nobody of the others gets more when the canary does, for which rounding can be to blame."""
    steps = [base, *(scaled(base, PLACES - percent) for percent in sorted(set(percents)))]
    return all(later[version] <= earlier[version] for earlier, later in pairwise(steps) for version in base) and all(
        all(step[version] or not base[version] for version in base) for step in steps
    )


def test_a_canary_takes_from_the_front_and_a_roll_back_returns_it() -> None:
    base = Split({"v1.0.0": 60, "v1.1.0": 40})
    small = with_weights(base, {"v2.0.0": 10, "v1.0.0": 54, "v1.1.0": 36})
    assert [(run.version, run.percent) for run in small.runs] == [
        ("v2.0.0", 6),
        ("v1.0.0", 54),
        ("v2.0.0", 4),
        ("v1.1.0", 36),
    ]
    large = with_weights(small, {"v2.0.0": 50, "v1.0.0": 30, "v1.1.0": 20})
    assert with_weights(large, small.weights).runs == small.runs
    assert with_weights(large, {"v1.0.0": 60, "v1.1.0": 40}).runs == base.runs


def test_who_had_nothing_for_a_while_comes_back_behind_whom_it_was_behind() -> None:
    old = Split({"v1.0.0": 100})
    half = with_weights(old, {"v2.0.0": 50, "v1.0.0": 50})
    done = with_weights(half, {"v2.0.0": 100})
    assert with_weights(done, {"v1.0.0": 50, "v2.0.0": 50}).runs == half.runs


@given(weights(), st.sets(st.sampled_from(VERSIONS)))
def test_while_one_is_away_the_others_keep_their_places(asked: Mapping[str, int], present: set[str]) -> None:
    split = Split(asked)
    shares = effective_shares(split, present)
    if not present & set(split.positive):
        assert shares == ()
        return
    assert counted(shares) == {version: weight for version, weight in proportional(asked, present).items() if weight}
    for was, now in zip(owners(split.runs), owners(shares), strict=True):
        assert now == was if was in present else now in present
    assert effective_shares(split, set(VERSIONS)) == split.runs == in_order(asked)


@given(weights(), weights())
def test_the_order_in_which_shares_are_named_does_not_matter(one: Mapping[str, int], two: Mapping[str, int]) -> None:
    backwards = dict(reversed(list(two.items())))
    assert with_weights(Split(one), two).runs == with_weights(Split(one), backwards).runs
