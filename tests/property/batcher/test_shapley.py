"""Shapley values against what is known of them: the linear truth, the axioms, and the definition itself."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.shapley import (
    PLAYERS_MAX,
    ROWS_PER_PLAYER,
    Coalitions,
    Design,
    Floats,
    Orders,
    plan,
)

Model = Callable[[Floats], Floats]
CHUNK = 37
"""No divisor of anything: what is asked about may be cut anywhere."""
TOLERANCE = 1e-9
NUMBERS = st.floats(-10, 10, width=32)
SEEDS = st.integers(0, 2**64 - 1)


def explained(design: Design, model: Model, instance: Floats, sample: Floats) -> tuple[Floats, float]:
    """The values and the baseline."""
    outputs = []
    for start in range(0, design.rows, CHUNK):
        stop = min(design.rows, start + CHUNK)
        asked = design.mixtures(start, stop)
        assert asked.taken.shape == (stop - start, len(instance))
        outputs.append(model(np.where(asked.taken, instance, sample[asked.references])))
    references = model(sample[design.references])
    whole = float(model(instance[None])[0])
    values = design.values(np.concatenate([*outputs, np.zeros(0)]), whole, references)
    return values, float(references.mean())


def by_definition(model: Model, instance: Floats, sample: Floats) -> Floats:
    """The mean over all orders of what each player changes, on average over the sample."""
    players = len(instance)
    values = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        taken = np.zeros(players, bool)
        before = model(sample).mean()
        for player in order:
            taken[player] = True
            after = model(np.where(taken, instance, sample)).mean()
            values[player] += after - before
            before = after
    return values / len(orders)


def linear(weights: Floats) -> Model:
    return lambda rows: rows @ weights + 3.0


def exclusive(rows: Floats) -> Floats:
    """Only the first two features matter, and only together."""
    return np.asarray((rows[:, 0] > 0) ^ (rows[:, 1] > 0), float)


def tree(rows: Floats) -> Floats:
    return np.asarray(np.where(rows[:, 0] > 0, np.where(rows[:, 1] > 1, 5.0, 2.0), np.where(rows[:, 2] > 0, -1.0, 0.5)))


def smooth(rows: Floats) -> Floats:
    return np.asarray(np.tanh(rows.sum(axis=1)) + rows[:, 0] * rows[:, -1])


@st.composite
def games(draw: st.DrawFn, players_max: int = 24) -> tuple[Floats, Floats, Floats]:
    """Weights, an instance and a sample."""
    players = draw(st.integers(1, players_max))
    rng = np.random.default_rng(draw(SEEDS))
    return rng.normal(size=players), rng.normal(size=players), rng.normal(size=(draw(st.integers(1, 20)), players))


def designs(players: int, references: int, seed: int) -> list[Design]:
    made: list[Design] = [plan(players, references, rows_max=200, seed=seed)]
    if players > 1:
        made.append(Orders(players, references, budget=4 * players, seed=seed))
    if players <= 8:
        made.append(Coalitions(players, references))
    return made


@given(games(), SEEDS)
def test_a_linear_model_gets_the_truth_exact_and_sampled(game: tuple[Floats, Floats, Floats], seed: int) -> None:
    weights, instance, sample = game
    for design in designs(len(instance), len(sample), seed):
        values, baseline = explained(design, linear(weights), instance, sample)
        used = sample[design.references]
        assert values == pytest.approx(weights * (instance - used.mean(axis=0)), abs=TOLERANCE)
        assert baseline == pytest.approx(float(linear(weights)(used).mean()), abs=TOLERANCE)


@given(games(), SEEDS)
def test_values_and_baseline_add_up_to_the_output(game: tuple[Floats, Floats, Floats], seed: int) -> None:
    _, instance, sample = game
    for design in designs(len(instance), len(sample), seed):
        values, baseline = explained(design, smooth, instance, sample)
        assert values.sum() + baseline == pytest.approx(float(smooth(instance[None])[0]), abs=TOLERANCE)


@given(games(), SEEDS, st.data())
def test_a_feature_without_influence_gets_nothing(
    game: tuple[Floats, Floats, Floats], seed: int, data: st.DataObject
) -> None:
    weights, instance, sample = game
    dummy = data.draw(st.integers(0, len(instance) - 1))
    weights[dummy] = 0.0
    for design in designs(len(instance), len(sample), seed):
        values, _ = explained(design, lambda rows: np.tanh(rows @ weights), instance, sample)
        assert abs(values[dummy]) <= TOLERANCE


@given(st.integers(2, 8), st.integers(1, 10), SEEDS)
def test_equal_players_get_equal_values(players: int, references: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample = np.repeat(rng.normal(size=(references, 1)), players, axis=1)
    instance = np.full(players, rng.normal())
    values, _ = explained(Coalitions(players, references), smooth_sum, instance, sample)
    assert values == pytest.approx(np.full(players, values[0]), abs=TOLERANCE)


def smooth_sum(rows: Floats) -> Floats:
    return np.asarray(np.exp(rows.sum(axis=1) / rows.shape[1]))


@pytest.mark.parametrize("model", [exclusive, tree, smooth])
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=2, max_size=5))
def test_exact_values_are_those_of_the_definition(model: Model, rows: list[tuple[float, ...]]) -> None:
    instance, sample = np.array(rows[0], float), np.array(rows[1:], float)
    design = plan(4, len(sample), rows_max=200, seed=0)
    assert design.exact
    values, _ = explained(design, model, instance, sample)
    assert values == pytest.approx(by_definition(model, instance, sample), abs=1e-7)


def test_two_features_that_only_count_together_share_alike() -> None:
    sample = np.array([[-1.0, -1.0, 7.0]])
    values, baseline = explained(plan(3, 1, rows_max=100, seed=0), exclusive, np.array([1.0, -1.0, 3.0]), sample)
    assert (values.tolist(), baseline) == ([1.0, 0.0, 0.0], 0.0)
    both, _ = explained(plan(3, 1, rows_max=100, seed=0), exclusive, np.array([1.0, 1.0, 3.0]), sample)
    assert both.tolist() == [0.0, 0.0, 0.0]


@given(games(10), SEEDS)
def test_pairs_of_orders_cancel_what_two_features_do_together(game: tuple[Floats, Floats, Floats], seed: int) -> None:
    """Of a quadratic model sampled values are exact, however few orders there are."""
    _, instance, sample = game
    players = len(instance)
    mixed = np.random.default_rng(seed).normal(size=(players, players))

    def quadratic(rows: Floats) -> Floats:
        return np.asarray(np.einsum("ri,ij,rj->r", rows, mixed, rows))

    if players < 2:
        return
    orders = Orders(players, len(sample), budget=2 * (players - 1), seed=seed)
    few, _ = explained(orders, quadratic, instance, sample)
    exact, _ = explained(Coalitions(players, len(orders.references)), quadratic, instance, sample[orders.references])
    assert few == pytest.approx(exact, abs=1e-7)


def test_more_rows_come_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(7)
    instance, sample, weights = rng.normal(size=9), rng.normal(size=(60, 9)), rng.normal(size=(9, 6))

    def network(rows: Floats) -> Floats:
        return np.asarray(np.tanh(2 * rows @ weights).prod(axis=1))

    truth, _ = explained(Coalitions(9, 60), network, instance, sample)
    errors = []
    for budget in (16 * 60, 16 * 60 * 16):
        drawn = [explained(Orders(9, 60, budget=budget, seed=seed), network, instance, sample)[0] for seed in range(20)]
        errors.append(float(np.abs(np.array(drawn) - truth).mean()))
    # Sixteen times the rows: a quarter of the error.
    assert errors[1] < errors[0] / 2.5


@given(st.integers(0, PLAYERS_MAX), st.integers(1, 256), st.integers(1, 20_000), SEEDS)
def test_the_budget_is_kept_and_every_reference_row_is_in_the_sample(
    players: int, references: int, rows_max: int, seed: int
) -> None:
    design = plan(players, references, rows_max=rows_max, seed=seed)
    assert 0 <= design.rows <= rows_max + ROWS_PER_PLAYER * players
    assert 1 <= len(design.references) <= references
    assert len(set(design.references.tolist())) == len(design.references)
    if design.rows:
        last = design.mixtures(design.rows - 1, design.rows)
        assert last.references[0] in design.references


@given(st.integers(2, 40), st.integers(1, 50), SEEDS)
def test_the_same_seed_asks_the_same_and_another_keeps_the_baseline(players: int, references: int, seed: int) -> None:
    one, same, other = (plan(players, references, rows_max=500, seed=at) for at in (seed, seed, seed + 1))
    asked, again = one.mixtures(0, one.rows), same.mixtures(0, same.rows)
    assert (asked.taken == again.taken).all()
    assert (asked.references == again.references).all()
    assert (one.references == other.references).all()


@pytest.mark.parametrize("players", [0, 1])
def test_one_player_takes_all_without_a_question(players: int) -> None:
    design = plan(players, 5, rows_max=100, seed=1)
    values = design.values(np.zeros(0), 4.0, np.array([1.0, 2.0, 3.0, 1.0, 3.0]))
    assert (design.rows, values.tolist()) == (0, [2.0] * players)
