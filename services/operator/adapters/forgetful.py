"""kopf without a memory of its own: it remembers nothing in objects, and compares nothing.

It usually keeps an object's last state in an annotation and copies each object deeply, several times an event, to tell
what changed since. Engines that are level-triggered ask neither; so nothing is written, and half of the work is saved.
"""

from collections.abc import Iterable

import kopf


class NoDifferences(kopf.DiffBaseStorage):
    """Every state is like every other."""

    def build(
        self,
        *,
        body: kopf.Body,  # noqa: ARG002
        extra_fields: Iterable[kopf.FieldSpec] | None = None,  # noqa: ARG002
    ) -> kopf.BodyEssence:
        """Nothing."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        """Nothing was kept."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keeps nothing."""


class NoProgress(kopf.ProgressStorage):
    """Handlers that run through at once have none."""

    def fetch(self, *, key: object, body: kopf.Body) -> kopf.ProgressRecord | None:  # noqa: ARG002
        """Nothing was kept."""
        return None

    def store(self, *, key: object, record: kopf.ProgressRecord, body: kopf.Body, patch: kopf.Patch) -> None:
        """Keeps nothing."""

    def purge(self, *, key: object, body: kopf.Body, patch: kopf.Patch) -> None:
        """There is nothing to remove."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Marks nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """What is compared has no marks."""
        return essence
