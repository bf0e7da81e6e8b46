"""How it is put together that gateways tell callers apart."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.errors import MeshError, invalid
from services.common.lifecycle import Lifecycle
from services.router.adapters.access import RegistryAccessSource
from services.router.adapters.access_store import PostgresAccessStore
from services.router.domain.access import is_key_set
from services.router.domain.issuers import Issuer, issuers_from_json
from services.router.engines.access import AccessKeeper
from services.router.engines.batchers import Batchers
from services.router.engines.publisher import Publisher
from services.router.ports import Admission
from services.router.settings import RouterSettings


def add_access(
    lifecycle: Lifecycle,
    settings: RouterSettings,
    *,
    engine: AsyncEngine,
    registry: grpc.aio.Channel,
    gateways: Admission,
    publisher: Publisher,
    batchers: Batchers,
    clock: Clock,
) -> None:
    """Adds what follows the registry's word on access. Before the publisher restores its table, after the database."""
    keeper = AccessKeeper(
        source=RegistryAccessSource(registry, watcher_id=settings.instance),
        store=PostgresAccessStore(engine),
        gateways=gateways,
        on_owners=publisher.owners_changed,
        on_revoked=batchers.revoke,
        clock=clock,
    )
    lifecycle.add("who may call", start=keeper.restore)
    lifecycle.add_task("registry's word on callers", keeper.follow)
    lifecycle.add_task("callers by what was kept", keeper.go_by_what_was_kept)
    lifecycle.add_task("kept callers", keeper.keep)
    lifecycle.on_health("who may call is known", lambda: keeper.known)


def issuers(settings: RouterSettings) -> tuple[Issuer, ...]:
    """The issuers of the settings, with the key sets that are in files. Raises INVALID_FIELD."""
    return tuple(_with_keys(settings))


@contextmanager
def told_by_settings() -> Iterator[None]:
    """Ends the process where what is made of settings cannot be, with a sentence that names the variable."""
    try:
        yield
    except MeshError as error:
        wrong = (f"{_variable(one.field)} {one.description}; set it and start again" for one in error.violations)
        raise SystemExit("\n".join(wrong) or error.message) from None


def _variable(field: str) -> str:
    head, *rest = re.split(r"(?=[\[.])", field, maxsplit=1)
    return f"INFERMESH_ROUTER_{head.upper()}{''.join(rest)}"


def _with_keys(settings: RouterSettings) -> Iterator[Issuer]:
    """Raises INVALID_FIELD."""
    for place, issuer in enumerate(issuers_from_json(settings.oidc_issuers)):
        if not issuer.jwks_file:
            yield issuer
            continue
        field = f"oidc_issuers[{place}].jwks"
        try:
            keys = Path(issuer.jwks_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise invalid(field, issuer.jwks_file, f"a readable file ({error})") from None
        if not is_key_set(keys):
            raise invalid(field, issuer.jwks_file, "a file with a JSON Web Key Set of at least one key")
        yield replace(issuer, jwks=keys)
