"""Which versions get labels of their own. A scrape stays small whatever is deployed over the months.

Only names that were served become labels: what callers make up never does.
"""

OTHER = "__other__"
"""Where what is beyond a bound is counted together."""
OTHERS = (OTHER, OTHER)
VERSIONS_MAX = 200
"""The most versions with labels of their own, first come, first served: a scrape of as many takes 0.15 s of CPU."""


class LabelSets:
    """Hands out labels. Who once has its own keeps them, so that counters never step back."""

    def __init__(self, *, versions_max: int = VERSIONS_MAX) -> None:
        self._versions_max = versions_max
        self._versions: set[tuple[str, str]] = set()
        self._models: set[str] = set()

    def of(self, model: str, version: str) -> tuple[str, str]:
        """The labels `model` and `version` of a version; OTHERS beyond the bound."""
        key = (model, version)
        if key not in self._versions:
            if len(self._versions) >= self._versions_max:
                return OTHERS
            self._versions.add(key)
        return key

    def of_model(self, model: str) -> str:
        """The label `model` where no version is told apart."""
        if model not in self._models:
            if len(self._models) >= self._versions_max:
                return OTHER
            self._models.add(model)
        return model
