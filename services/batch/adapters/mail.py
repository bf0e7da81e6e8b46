"""E-mail of jobs."""

from services.batch.domain.telling import letter as body_of
from services.batch.domain.telling import subject
from services.batch.ports_outbox import Letter
from services.common.delivery.mail import Mailer


class MailCourier:
    """A `Courier` of e-mail."""

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer

    async def deliver(self, letter: Letter) -> None:
        """Hands the letter to the mail server."""
        await self._mailer.send(
            [letter.address], subject=subject(letter.job), body=body_of(letter.job), letter_id=letter.notice_id
        )
