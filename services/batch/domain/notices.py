"""Who is told of a job, by which means, and of which statuses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from services.batch.domain.job import Notice, Status
from services.common.delivery.addresses import check_address, check_url
from services.common.errors import MeshError, invalid

NOTICES_MAX = 16
_NOTICES = "notifications"
_ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
_TOLD = (Status.RUNNING, *_ENDS)


class Means(StrEnum):
    """How somebody is told."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    SLACK = "slack"


@dataclass(frozen=True, slots=True)
class NoticeWish:
    """A notification as it was asked for; exactly one of the addresses should be set."""

    email: str = ""
    webhook_url: str = ""
    slack_channel: str = ""
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offices:
    """By which means this service can tell anybody, as its operator set it up."""

    email: bool = False
    webhooks: bool = False
    private_webhooks: bool = False
    """Whether webhooks may lie in private networks and be spoken to without TLS."""
    slack: frozenset[str] = field(default_factory=frozenset)
    """The channels there are webhooks for."""


NO_OFFICES = Offices()


def check_mailbox(address: str, offices: Offices, field_name: str = "notify_on_completion") -> str:
    """An e-mail address, or empty for nobody. Raises INVALID_FIELD."""
    if not address:
        return ""
    if not offices.email:
        raise _not_set_up(
            field_name, address, "e-mail is not", "INFERMESH_BATCH_SMTP_HOST and INFERMESH_BATCH_MAIL_FROM"
        )
    return check_address(address, field_name)


def check_notices(wishes: Sequence[NoticeWish], offices: Offices) -> tuple[Notice, ...]:
    """What is to be told to whom, each address once. Raises INVALID_FIELD naming the notification that is wrong."""
    if len(wishes) > NOTICES_MAX:
        raise invalid(_NOTICES, f"{len(wishes)} notifications", f"at most {NOTICES_MAX}")
    notices = tuple(_notice(wish, offices, f"{_NOTICES}[{place}]") for place, wish in enumerate(wishes))
    addressed = [(notice.means, notice.address) for notice in notices]
    for place, address in enumerate(addressed):
        if address in addressed[:place]:
            raise invalid(f"{_NOTICES}[{place}]", address[1], "an address that no other notification of the job has")
    return notices


def shown_address(means: str, address: str) -> str:
    """An address as all may see it who see the job: of a URL the scheme and the host, because its path often is the
    secret that lets one in."""
    if means != Means.WEBHOOK:
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}/…"


def _notice(wish: NoticeWish, offices: Offices, name: str) -> Notice:
    given = [word for word in (wish.email, wish.webhook_url, wish.slack_channel) if word]
    if len(given) != 1:
        raise invalid(name, f"{len(given)} addresses", "exactly one of email, webhook_url and slack_channel")
    told = [status.value for status in _TOLD]
    for status in wish.statuses:
        if status not in told:
            raise invalid(f"{name}.statuses", status, "of " + ", ".join(told))
    statuses = tuple(status.value for status in _TOLD if status in (wish.statuses or _ENDS))
    if wish.email:
        return Notice(Means.EMAIL, check_mailbox(wish.email, offices, f"{name}.email"), statuses)
    if wish.webhook_url:
        return Notice(Means.WEBHOOK, _check_url(wish.webhook_url, offices, f"{name}.webhook_url"), statuses)
    return Notice(Means.SLACK, _check_channel(wish.slack_channel, offices, f"{name}.slack_channel"), statuses)


def _check_url(url: str, offices: Offices, name: str) -> str:
    if not offices.webhooks:
        raise _not_set_up(name, url, "webhooks are not", "INFERMESH_BATCH_WEBHOOK_SECRET, which signs them")
    return check_url(url, name, private_allowed=offices.private_webhooks)


def _check_channel(channel: str, offices: Offices, name: str) -> str:
    if not offices.slack:
        raise _not_set_up(name, channel, "Slack is not", "INFERMESH_BATCH_SLACK_WEBHOOKS")
    if channel not in offices.slack:
        raise invalid(name, channel, "one of " + ", ".join(sorted(offices.slack)))
    return channel


def _not_set_up(name: str, value: str, what: str, variable: str) -> MeshError:
    return invalid(name, value, f"nothing, because {what} set up here; the operator of the mesh sets {variable}")
