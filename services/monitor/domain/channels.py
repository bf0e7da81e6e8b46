"""Notification channels and silences: what may be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from services.common.delivery.addresses import check_address, check_url
from services.common.errors import MeshError, invalid
from services.common.names import check_model_name
from services.monitor.domain.alerts import SEVERITIES, Alert

ADDRESSES_MAX = 20
SECRET_MAX = 512
REASON_MAX = 1000
SILENCE_MAX = timedelta(days=30)
_PATH = "notification_channel"
_ROUTING_KEY_LENGTH = 32


class Means(StrEnum):
    """What a channel is."""

    SLACK = "slack"
    PAGER_DUTY = "pager_duty"
    WEBHOOK = "webhook"
    EMAIL = "email"


FOLLOWED = (Means.PAGER_DUTY, Means.WEBHOOK)
"""What is read by programs, which are also told that someone looks after an alert; one message an alert."""


@dataclass(frozen=True, slots=True)
class Offices:
    """What the monitor's operator set up."""

    email: bool = False
    secrets: bool = False
    """Whether there is a key that secrets are encrypted with."""
    private_webhooks: bool = False


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A channel as people word it. `target` is what may be shown: Slack's host, a webhook's URL."""

    name: str
    means: str
    target: str = ""
    addresses: tuple[str, ...] = ()
    min_severity: str = SEVERITIES[0]


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as it is kept; `has_secret`: one is stored, encrypted, beside it."""

    spec: ChannelSpec
    etag: str
    created_at: datetime
    updated_at: datetime
    has_secret: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts of a rule, a model or both are not sent for a while."""

    silence_id: str
    rule: str
    model: str
    reason: str
    start: datetime
    end: datetime
    created_by: str = ""

    def covers(self, alert: Alert, now: datetime) -> bool:
        """Whether the alert is not to be sent now."""
        return self.start <= now < self.end and self.rule in ("", alert.rule) and self.model in ("", alert.model)


def silenced(alert: Alert, silences: Sequence[Silence], now: datetime) -> bool:
    """Whether any silence covers the alert."""
    return any(silence.covers(alert, now) for silence in silences)


def checked_channel(
    spec: ChannelSpec, secret: str, offices: Offices, *, secret_kept: bool = False
) -> tuple[ChannelSpec, str]:
    """The channel and its secret, checked; with `secret_kept` an empty secret leaves the one that is stored. Raises
    INVALID_FIELD, which repeats no secret.
    """
    check_model_name(spec.name, f"{_PATH}.name")
    severity = spec.min_severity or SEVERITIES[0]
    if severity not in SEVERITIES:
        raise invalid(f"{_PATH}.min_severity", severity, ", ".join(SEVERITIES))
    made = replace(spec, min_severity=severity)
    if made.means == Means.EMAIL:
        return replace(made, addresses=_addresses(made.addresses, offices)), ""
    if secret and not offices.secrets:
        raise _not_set_up(_secret_field(made.means), "secrets are not", "INFERMESH_MONITOR_CHANNEL_KEY")
    if made.means == Means.WEBHOOK:
        check_url(made.target, f"{_PATH}.webhook.url", private_allowed=offices.private_webhooks)
        if len(secret) > SECRET_MAX or "\0" in secret:
            raise invalid(f"{_PATH}.webhook.signing_secret", "a secret", f"at most {SECRET_MAX} characters")
        return made, secret
    if not secret and not secret_kept:
        raise invalid(_secret_field(made.means), "", "the secret that Slack or PagerDuty gave you")
    if made.means == Means.SLACK:
        return (replace(made, target=_slack(secret, offices)) if secret else made), secret
    if secret and (len(secret) != _ROUTING_KEY_LENGTH or not secret.isascii() or not secret.isalnum()):
        raise invalid(
            _secret_field(made.means), "a key", f"the {_ROUTING_KEY_LENGTH} letters and digits of an integration's key"
        )
    return made, secret


def checked_silence(silence: Silence, *, now: datetime) -> Silence:
    """The silence. Raises INVALID_FIELD."""
    if not silence.rule and not silence.model:
        raise invalid("silence.rule_name", "", "a rule, or a model in silence.model_name, or both")
    for field, name in (("rule_name", silence.rule), ("model_name", silence.model)):
        if name:
            check_model_name(name, f"silence.{field}")
    if len(silence.reason) > REASON_MAX or "\0" in silence.reason:
        raise invalid("silence.reason", silence.reason[:100], f"at most {REASON_MAX} characters")
    if silence.end <= max(silence.start, now):
        raise invalid("silence.end_time", silence.end.isoformat(), "a moment to come, after start_time")
    if silence.end - silence.start > SILENCE_MAX:
        raise invalid("silence.end_time", silence.end.isoformat(), f"at most {SILENCE_MAX.days} days after start_time")
    return silence


def _addresses(given: Sequence[str], offices: Offices) -> tuple[str, ...]:
    field = f"{_PATH}.email.addresses"
    if not offices.email:
        raise _not_set_up(field, "e-mail is not", "INFERMESH_MONITOR_SMTP_HOST and INFERMESH_MONITOR_MAIL_FROM")
    addresses = tuple(dict.fromkeys(given))
    if not 1 <= len(addresses) <= ADDRESSES_MAX:
        raise invalid(field, f"{len(addresses)} addresses", f"1 to {ADDRESSES_MAX}")
    return tuple(check_address(address, f"{field}[{place}]") for place, address in enumerate(addresses))


def _slack(url: str, offices: Offices) -> str:
    host = urlsplit(url).hostname or "" if url.isascii() and url.isprintable() else ""
    check_url(
        url, f"{_PATH}.slack.webhook_url", private_allowed=offices.private_webhooks, shown=host or "what was given"
    )
    return host


def _secret_field(means: str) -> str:
    names = {Means.SLACK: "slack.webhook_url", Means.PAGER_DUTY: "pager_duty.routing_key"}
    return f"{_PATH}.{names.get(Means(means), 'webhook.signing_secret')}"


def _not_set_up(field: str, what: str, variable: str) -> MeshError:
    return invalid(field, "it", f"nothing, because {what} set up here; the operator of the mesh sets {variable}")
