"""Notification channels and silences in PostgreSQL. Secrets are stored encrypted and read by whoever delivers alone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.monitor.adapters.alert_rows import CHANNEL, lock_alerts, settle, silences_of
from services.monitor.adapters.channel_secrets import ChannelKey
from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_rules import check_etag, check_same_request, digest_of
from services.monitor.domain.channels import Channel, ChannelSpec, Silence
from services.monitor.ports_alerts import Asked

_FIELDS = "spec, etag, created_at, updated_at, secret IS NOT NULL AS has_secret"
_GET = text(f"SELECT {_FIELDS} FROM notification_channels WHERE name = :name")  # noqa: S608 - names out of this file
_BY_REQUEST = text(f"""
    SELECT {_FIELDS}, request_digest FROM notification_channels WHERE request_id = :request_id AND request_id <> ''
""")  # noqa: S608 - names out of this file
_SECRET = text("SELECT secret FROM notification_channels WHERE name = :name")
_FIND = text(f"SELECT {_FIELDS} FROM notification_channels WHERE name > :after ORDER BY name LIMIT :limit")  # noqa: S608
_CREATE = text(f"""
    INSERT INTO notification_channels (name, spec, secret, etag, created_at, updated_at, request_id, request_digest)
    VALUES (:name, CAST(:spec AS jsonb), :secret, nextval('alert_revisions')::text, :now, :now, :request_id, :digest)
    ON CONFLICT (name) DO NOTHING RETURNING {_FIELDS}
""")  # noqa: S608 - names out of this file
_UPDATE = text(f"""
    UPDATE notification_channels SET spec = CAST(:spec AS jsonb),
        secret = CASE WHEN :keeps THEN secret ELSE :secret END, etag = nextval('alert_revisions')::text,
        updated_at = :now
    WHERE name = :name RETURNING {_FIELDS}
""")  # noqa: S608 - names out of this file
_DELETE = text("DELETE FROM notification_channels WHERE name = :name")
_USED_BY = text("SELECT name FROM alert_rules WHERE spec -> 'channels' ? :name ORDER BY name LIMIT 1")

_SILENCE = "silence_id, rule_name, model_id, reason, start_time, end_time, created_by"
_SILENCE_BY_REQUEST = text(f"""
    SELECT {_SILENCE}, request_digest FROM silences WHERE request_id = :request_id AND request_id <> ''
""")  # noqa: S608 - names out of this file
_SILENCE_GET = text(f"SELECT {_SILENCE} FROM silences WHERE silence_id = :silence_id")  # noqa: S608
_SILENCE_PUT = text(f"""
    INSERT INTO silences ({_SILENCE}, request_id, request_digest)
    VALUES (:silence_id, :rule, :model, :reason, :start, :end, :created_by, :request_id, :digest)
""")  # noqa: S608 - names out of this file
_SILENCE_DROP = text("DELETE FROM silences WHERE silence_id = :silence_id RETURNING end_time")


class PostgresChannelStore:
    """A `ChannelStore`."""

    def __init__(self, engine: AsyncEngine, *, key: ChannelKey | None) -> None:
        self._engine = engine
        self._key = key

    async def create(self, spec: ChannelSpec, secret: str, asked: Asked, *, now: datetime) -> Channel:
        """Makes a channel."""
        document = CHANNEL.dump_json(spec).decode()
        digest = digest_of(document)
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            known = (await connection.execute(_BY_REQUEST, {"request_id": asked.request_id})).first()
            if known is not None:
                check_same_request(known.request_digest, digest, asked.request_id)
                return _channel(known)
            values = {
                "name": spec.name,
                "spec": document,
                "secret": self._sealed(secret, spec.name),
                "now": now,
                "request_id": asked.request_id,
                "digest": digest,
            }
            made = (await connection.execute(_CREATE, values)).first()
            if made is None:
                raise MeshError(
                    Reason.CHANNEL_EXISTS,
                    f"there is a notification channel {spec.name!r} already; change it with UpdateNotificationChannel, "
                    "or take another name",
                    metadata={"notification_channel": spec.name},
                )
            return _channel(made)

    async def get(self, name: str) -> Channel | None:
        """One channel."""
        async with transaction(self._engine) as connection:
            return await _get(connection, name)

    async def secret(self, name: str) -> str:
        """Its secret, decrypted."""
        async with transaction(self._engine) as connection:
            sealed = (await connection.execute(_SECRET, {"name": name})).scalar()
        if sealed is None:
            return ""
        if self._key is None:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the secret of notification channel {name!r} is encrypted and the monitor has no key; set "
                "INFERMESH_MONITOR_CHANNEL_KEY",
            )
        return self._key.opened(bytes(sealed), name)

    async def find(self, *, after: str, limit: int) -> Sequence[Channel]:
        """Channels by name."""
        async with transaction(self._engine) as connection:
            return [_channel(row) for row in await connection.execute(_FIND, {"after": after, "limit": limit})]

    async def update(self, spec: ChannelSpec, secret: str, *, etag: str, now: datetime) -> Channel | None:
        """Changes a channel; an empty secret stays as it was, where the channel is still of the same means."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            before = await _get(connection, spec.name)
            if before is None:
                return None
            check_etag(etag, before.etag, f"notification channel {spec.name!r}")
            values = {
                "name": spec.name,
                "spec": CHANNEL.dump_json(spec).decode(),
                "secret": self._sealed(secret, spec.name),
                "keeps": not secret and spec.means == before.spec.means,
                "now": now,
            }
            return _channel((await connection.execute(_UPDATE, values)).one())

    async def delete(self, name: str, *, etag: str) -> bool:
        """Removes a channel."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            before = await _get(connection, name)
            if before is None:
                return False
            check_etag(etag, before.etag, f"notification channel {name!r}")
            user = (await connection.execute(_USED_BY, {"name": name})).scalar()
            if user is not None:
                raise MeshError(
                    Reason.RESOURCE_IN_USE,
                    f"alert rule {user!r} tells notification channel {name!r}; take it out of the rule first",
                    metadata={"notification_channel": name, "alert_rule": user},
                )
            await connection.execute(_DELETE, {"name": name})
            return True

    def _sealed(self, secret: str, name: str) -> bytes | None:
        return self._key.sealed(secret, name) if secret and self._key is not None else None


class PostgresSilenceStore:
    """A `SilenceStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, silence: Silence, asked: Asked, *, now: datetime) -> Silence:  # noqa: ARG002
        """Makes a silence. It holds once this returns: whoever writes letters waits for the same lock."""
        digest = digest_of(f"{silence.rule}\n{silence.model}\n{silence.reason}\n{silence.end.isoformat()}")
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            known = (await connection.execute(_SILENCE_BY_REQUEST, {"request_id": asked.request_id})).first()
            if known is not None:
                check_same_request(known.request_digest, digest, asked.request_id)
                return Silence(*known[:7])
            values = {"request_id": asked.request_id, "digest": digest}
            await connection.execute(_SILENCE_PUT, {**_silence_values(silence), **values})
            return silence

    async def get(self, silence_id: str) -> Silence | None:
        """One silence."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_SILENCE_GET, {"silence_id": silence_id})).first()
            return None if row is None else Silence(*row)

    async def find(self, *, now: datetime) -> Sequence[Silence]:
        """Those that are not over."""
        async with transaction(self._engine) as connection:
            return await silences_of(connection, now)

    async def delete(self, silence_id: str, *, now: datetime) -> bool:
        """Ends a silence; what it covered and still lasts is told at once."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            if (await connection.execute(_SILENCE_DROP, {"silence_id": silence_id})).first() is None:
                return False
            await settle(connection, now)
            return True


async def _get(connection: AsyncConnection, name: str) -> Channel | None:
    row = (await connection.execute(_GET, {"name": name})).first()
    return None if row is None else _channel(row)


def _channel(row: Row[Any]) -> Channel:
    return Channel(CHANNEL.validate_python(row.spec), row.etag, row.created_at, row.updated_at, bool(row.has_secret))


def _silence_values(silence: Silence) -> dict[str, object]:
    return {
        "silence_id": silence.silence_id,
        "rule": silence.rule,
        "model": silence.model,
        "reason": silence.reason,
        "start": silence.start,
        "end": silence.end,
        "created_by": silence.created_by,
    }
