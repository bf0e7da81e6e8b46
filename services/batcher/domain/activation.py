"""What may become of having a cold version loaded, beside that it is ready and that it cannot be loaded."""


class NoAnswerError(Exception):
    """Whoever loads versions did not answer: nothing is known, and trying again may help. The text says why."""
