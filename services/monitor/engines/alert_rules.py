"""What people ask of alert rules, notification channels and silences."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.names import check_model_name
from services.monitor.domain.channels import Channel, ChannelSpec, Offices, Silence, checked_channel, checked_silence
from services.monitor.domain.rules import Rule, RuleSpec, checked_rule
from services.monitor.ports_alerts import Asked, ChannelStore, RuleStore, SilenceStore

REQUEST_ID_MAX = 64


class AlertRules:
    """Owns rules. Whoever asks sees rules of models that it sees, and those of all models."""

    def __init__(self, *, store: RuleStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, spec: RuleSpec, asked: Asked) -> Rule:
        """Makes a rule."""
        return await self._store.create(checked_rule(spec), asked, now=self._clock.now())

    async def get(self, name: str, sight: Sight = EVERYTHING) -> Rule:
        """One rule. Raises ALERT_NOT_FOUND, also where it is of a model that the caller does not see."""
        rule = await self._store.get(name)
        if rule is None or (rule.spec.model and not sight.shows(rule.spec.model)):
            raise _no_rule(name)
        return rule

    async def find(self, model: str, *, after: str, limit: int, sight: Sight = EVERYTHING) -> Sequence[Rule]:
        """Rules by name: those of a model, or all that the caller sees."""
        name = check_model_name(model) if model else ""
        models = None if sight.everything else sight.names
        return await self._store.find(name, after=after, limit=limit, models=models)

    async def update(
        self, name: str, change: Callable[[RuleSpec], RuleSpec], *, etag: str, sight: Sight = EVERYTHING
    ) -> Rule:
        """Changes a rule. Raises ALERT_NOT_FOUND, PERMISSION_DENIED for another team's, ETAG_MISMATCH."""
        before = await self.get(name, sight)
        _check_owner(sight, before.spec.model, f"alert rule {name!r}")
        after = checked_rule(change(before.spec))
        _check_owner(sight, after.model, f"alert rule {name!r}")
        # What was read just now may be old already: without an etag of the caller's that would undo another's change.
        updated = await self._store.update(after, etag=etag or before.etag, now=self._clock.now())
        if updated is None:
            raise _no_rule(name)
        return updated

    async def delete(self, name: str, *, etag: str, sight: Sight = EVERYTHING) -> None:
        """Removes a rule; its alerts end."""
        before = await self.get(name, sight)
        _check_owner(sight, before.spec.model, f"alert rule {name!r}")
        if not await self._store.delete(name, etag=etag, now=self._clock.now()):
            raise _no_rule(name)


class Channels:
    """Owns notification channels, which are operators' alone."""

    def __init__(self, *, store: ChannelStore, offices: Offices, clock: Clock) -> None:
        self._store = store
        self._offices = offices
        self._clock = clock

    async def create(self, spec: ChannelSpec, secret: str, asked: Asked) -> Channel:
        """Makes a channel."""
        checked, kept = checked_channel(spec, secret, self._offices)
        return await self._store.create(checked, kept, asked, now=self._clock.now())

    async def get(self, name: str) -> Channel:
        """One channel. Raises CHANNEL_NOT_FOUND."""
        channel = await self._store.get(name)
        if channel is None:
            raise _no_channel(name)
        return channel

    async def find(self, *, after: str, limit: int) -> Sequence[Channel]:
        """Channels by name."""
        return await self._store.find(after=after, limit=limit)

    async def update(
        self, name: str, change: Callable[[ChannelSpec], tuple[ChannelSpec, str]], *, etag: str
    ) -> Channel:
        """Changes a channel; a secret left empty stays as it is. Raises CHANNEL_NOT_FOUND, ETAG_MISMATCH."""
        before = await self.get(name)
        wished, secret = change(before.spec)
        kept = before.has_secret and wished.means == before.spec.means
        spec, checked = checked_channel(wished, secret, self._offices, secret_kept=kept)
        updated = await self._store.update(spec, checked, etag=etag or before.etag, now=self._clock.now())
        if updated is None:
            raise _no_channel(name)
        return updated

    async def delete(self, name: str, *, etag: str) -> None:
        """Removes a channel. Raises CHANNEL_NOT_FOUND, ETAG_MISMATCH, RESOURCE_IN_USE."""
        if not await self._store.delete(name, etag=etag):
            raise _no_channel(name)


class Silences:
    """Owns silences."""

    def __init__(self, *, store: SilenceStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def now(self) -> datetime:
        """When a silence begins that does not say so."""
        return self._clock.now()

    async def create(self, silence: Silence, asked: Asked) -> Silence:
        """Makes a silence, and gives it its id."""
        made = replace(silence, silence_id=str(uuid.uuid4()), created_by=asked.by)
        now = self._clock.now()
        return await self._store.create(checked_silence(made, now=now), asked, now=now)

    async def find(self, sight: Sight = EVERYTHING) -> Sequence[Silence]:
        """Those that are not over, of models that the caller sees and of all models."""
        found = await self._store.find(now=self._clock.now())
        return [silence for silence in found if not silence.model or sight.shows(silence.model)]

    async def delete(self, silence_id: str, sight: Sight = EVERYTHING) -> None:
        """Ends a silence. Raises SILENCE_NOT_FOUND, and PERMISSION_DENIED for another team's."""
        silence = await self._store.get(silence_id)
        if silence is None or (silence.model and not sight.shows(silence.model)):
            raise _no_silence(silence_id)
        _check_owner(sight, silence.model, f"silence {silence_id!r}")
        if not await self._store.delete(silence_id, now=self._clock.now()):
            raise _no_silence(silence_id)


def _check_owner(sight: Sight, model: str, what: str) -> None:
    if sight.everything if not model else sight.owns(model):
        return
    whose = f"of model {model!r}, which is not your team's" if model else "of all models"
    raise MeshError(
        Reason.PERMISSION_DENIED,
        f"{what} is {whose}; {'its owner changes it' if model else 'an operator of the mesh changes it'}",
        metadata={"model_name": model} if model else {},
    )


def _no_rule(name: str) -> MeshError:
    return MeshError(
        Reason.ALERT_NOT_FOUND,
        f"no alert rule is called {name!r}; ListAlertRules shows those that there are",
        metadata={"alert_rule": name[:100]},
    )


def _no_channel(name: str) -> MeshError:
    return MeshError(
        Reason.CHANNEL_NOT_FOUND,
        f"there is no notification channel {name!r}; ListNotificationChannels shows those that there are",
        metadata={"notification_channel": name[:100]},
    )


def _no_silence(silence_id: str) -> MeshError:
    return MeshError(
        Reason.SILENCE_NOT_FOUND,
        f"no silence has the id {silence_id!r}; ListSilences shows those that are not over",
        metadata={"silence_id": silence_id[:100]},
    )
