"""Why an artifact cannot be taken."""


class RefusedError(Exception):
    """A problem that completes "the artifact cannot be registered: …", and what to do about it."""

    def __init__(self, problem: str, advice: str = "save the model again") -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice


class BrokenError(RefusedError):
    """The bytes break their own format."""
