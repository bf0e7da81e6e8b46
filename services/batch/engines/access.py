"""Whose jobs are whose, and whether a job may go on: its team must see the model as long as it runs."""

from collections.abc import Mapping

from services.batch.domain.job import Job
from services.common.access.book import AccessBook
from services.common.access.decide import model_not_found
from services.common.errors import MeshError
from services.common.grpc.identity import Identity


class JobAccess:
    """What the registry says of teams, as far as jobs are concerned."""

    def __init__(self, book: AccessBook) -> None:
        self._book = book

    def caller_of(self, job: Job) -> Identity:
        """In whose name a job predicts: its team's and user's, who need no more than to see the model. A job without a
        team was made by the mesh's operators, or while authentication was off."""
        if not job.team:
            return Identity(user=job.user)
        return Identity(user=job.user, team=job.team, role="viewer")

    def refusal(self, job: Job) -> MeshError | None:
        """Why the job may not go on. What is not known of a model is left to the batcher to say."""
        model = job.spec.version.model
        standing = self._book.standing(model)
        if standing is None or self.caller_of(job).sees(model, standing.team, standing.shared_with):
            return None
        return model_not_found(model)

    def concurrency(self) -> Mapping[str, int]:
        """How many jobs of a team may run at one time; teams without a limit are left out."""
        return self._book.batch_concurrency()
