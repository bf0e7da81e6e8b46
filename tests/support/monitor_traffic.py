"""Traffic as people make it, by the hour."""

import numpy as np
import numpy.typing as npt


def traffic(random: np.random.Generator, level: int, hours: int, *, noise: float = 0.05) -> npt.NDArray[np.int64]:
    """Requests by hour since a Monday's midnight: a day's and a week's pattern, hours that differ by `noise` (a share),
    and chance."""
    hour = np.arange(hours)
    of_day = 1 + 0.8 * np.sin(2 * np.pi * ((hour % 24) - 9) / 24)
    of_week = np.where(hour // 24 % 7 >= 5, 0.4, 1.0)
    return random.poisson(level * of_day * of_week * random.lognormal(0, noise, hours)).astype(np.int64)
