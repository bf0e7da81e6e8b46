"""How the part of the registry is put together that knows teams, keys and access."""

import secrets
from dataclasses import dataclass

from infermesh.registry.v1 import team_service_pb2_grpc
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.access.key_use import KeyUse
from services.common.clock import Clock
from services.common.grpc.identity import Identity
from services.common.grpc.server import Service
from services.common.lifecycle import Lifecycle
from services.registry.adapters.access_source import PostgresAccessSource
from services.registry.adapters.change_feed import ChangeFeed
from services.registry.adapters.postgres_keys import PostgresKeyBook
from services.registry.adapters.postgres_keys_signing import PostgresSigningKeys
from services.registry.adapters.postgres_teams import PostgresTeamBook
from services.registry.adapters.postgres_teams_sharing import PostgresSharingBook
from services.registry.adapters.signing_key import load_signing_key
from services.registry.engines.access_feed import AccessFeed
from services.registry.engines.keys import Keys
from services.registry.engines.reading import Reading
from services.registry.engines.sharing import Sharing
from services.registry.engines.signing import Signing
from services.registry.engines.teams import Teams
from services.registry.servicers.teams import TeamServicer
from services.registry.settings import RegistrySettings

_KEY_ID_BYTES = 12


@dataclass(frozen=True)
class Access:
    """The parts that others of the registry need."""

    sharing: Sharing
    feed: AccessFeed
    key_use: KeyUse
    service: Service

    async def close(self) -> None:
        """Ends the streams of followers, which would otherwise hold up the end of the server."""
        self.feed.close()


def build_access(
    lifecycle: Lifecycle, settings: RegistrySettings, engine: AsyncEngine, *, reading: Reading, clock: Clock
) -> Access:
    """Teams, keys and access over the database. Add the database to the lifecycle before."""
    signer = load_signing_key(
        pem=settings.signing_key.get_secret_value(), path=settings.signing_key_path, data_dir=settings.data_dir
    )
    book, sharing = PostgresTeamBook(engine), PostgresSharingBook(engine)
    signing = Signing(signer=signer, keys=PostgresSigningKeys(engine), clock=clock)
    feed = AccessFeed(PostgresAccessSource(engine), clock=clock, whole_period_s=settings.access_period_s)
    word = ChangeFeed(settings.database_url.get_secret_value(), tell=feed.tell, clock=clock)
    keys = Keys(
        keys=PostgresKeyBook(engine),
        teams=book,
        signer=signer,
        clock=clock,
        new_id=lambda: secrets.token_hex(_KEY_ID_BYTES),
    )
    servicer = TeamServicer(teams=Teams(book, clock=clock), keys=keys, feed=feed, meter=sharing)
    # What comes to the registry itself is told to nobody else.
    key_use = KeyUse(lambda used: keys.note_use(used, caller=Identity()), clock=clock)
    lifecycle.add("last use of keys", stop=key_use.flush, stop_timeout_s=2.0)
    lifecycle.add_task("use of keys", key_use.run)
    lifecycle.add("signing key", start=signing.publish)
    lifecycle.add_task("signing key in use", signing.run)
    lifecycle.add_task("access", feed.run)
    lifecycle.add_task("word of access", word.run)
    lifecycle.on_health("who may do what is known", lambda: feed.known)
    return Access(
        sharing=Sharing(sharing, reading=reading),
        feed=feed,
        key_use=key_use,
        service=(
            lambda server: team_service_pb2_grpc.add_TeamServiceServicer_to_server(servicer, server),
            "infermesh.registry.v1.TeamService",
        ),
    )
