"""The daily and weekly pattern of a series, by statsmodels: MSTL takes it apart into patterns and what is left, simple
exponential smoothing says at which level that goes on, and the last day and week of the patterns are laid on top.

Square roots are taken first: counts vary with their mean, and their square roots do not. Importing statsmodels takes
seconds and 110 MB, so only a process of its own does it (`adapters/forecast_process.py`), which ends with its work.
"""

from collections.abc import Sequence

import numpy as np
from statsmodels.tsa.holtwinters import SimpleExpSmoothing
from statsmodels.tsa.seasonal import MSTL

from services.deployer.domain.forecast import Outlook

Values = np.ndarray[tuple[int], np.dtype[np.float64]]
_TREND_JUMPS = 6
"""The trend is smoothed at so many places a day and interpolated in between: 50 times as fast, no less exact."""
_LEVEL_DAYS = 7
"""The level is learnt over so many days."""
_FLAT = 1e-9


def outlook(series: Sequence[float], *, day: int) -> Outlook:
    """One day after a series of more than two days with `day` values each, all at least 0."""
    known = np.asarray(series, dtype=np.float64)
    if len(known) <= 2 * day:
        raise ValueError(f"a series of {len(known)} values has less than two days of {day}")
    before, last = known[:-day], known[-day:]
    # Of two days the first is all that the second can be told from.
    expected = _continued(before, day) if len(before) > 2 * day else before[-day:]
    return Outlook(tuple(float(value) for value in _continued(known, day)), _error(expected, last))


def _continued(known: Values, day: int) -> Values:
    roots = np.sqrt(known)
    periods = [day, 7 * day] if len(roots) > 14 * day else [day]
    jump = max(1, day // _TREND_JUMPS)
    options = {"seasonal_deg": 0, "trend_jump": jump, "low_pass_jump": jump}
    patterns = np.asarray(MSTL(roots, periods=periods, stl_kwargs=options).fit().seasonal).reshape(len(roots), -1).T
    rest = (roots - patterns.sum(axis=0))[-_LEVEL_DAYS * day :]
    forecast = np.full(day, _level(rest))
    for pattern, period in zip(patterns, periods, strict=True):
        forecast += pattern[-period:][:day]
    values: Values = np.square(np.maximum(forecast, 0.0))
    return values


def _level(rest: Values) -> float:
    if np.ptp(rest) < _FLAT:
        return float(rest[-1])
    fitted = SimpleExpSmoothing(rest, initialization_method="estimated").fit()
    return float(fitted.forecast(1)[0])


def _error(expected: Values, came: Values) -> float:
    wrong, total = float(np.abs(expected - came).sum()), float(came.sum())
    return wrong / total if total > 0 else (0.0 if wrong == 0 else float("inf"))
