"""What every `SignatureBook` and `TeamRulesBook` promises."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from services.common.database import create_engine, migrate
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres import PostgresCatalogue
from services.registry.adapters.postgres_changes import PostgresChangeLog
from services.registry.adapters.signature_rows import PostgresSignatureBook
from services.registry.adapters.signature_rules import PostgresTeamRules
from services.registry.domain.changes import Wanted
from services.registry.domain.signatures import KeptSignature, Signature
from services.registry.domain.team_rules import TeamRules
from services.registry.ports import Catalogue
from services.registry.ports_reading import SignatureBook, TeamRulesBook
from tests.support.clock import FakeClock
from tests.support.registry_fakes import MemoryCatalogue, new
from tests.support.registry_reading import MemorySignatureBook, MemoryTeamRules

CHECKED = Signature("sigstore", True, "ada", "", datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC))
VISION = TeamRules("vision", True, ("ada", "bob"))


@dataclass(frozen=True)
class Books:
    catalogue: Catalogue
    signatures: SignatureBook
    rules: TeamRulesBook


@pytest.fixture
async def books(url: str) -> AsyncIterator[Books]:
    if not url:
        rules = MemoryTeamRules({"vision": VISION, "": TeamRules(allow_unsafe=True)})
        yield Books(MemoryCatalogue(FakeClock()), MemorySignatureBook(), rules)
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=2)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO teams (name, namespace, allow_unsafe_artifacts, trusted_signers)"
                " VALUES ('vision', 'vision', true, '{ada,bob}')"
            )
        )
    yield Books(
        PostgresCatalogue(engine),
        PostgresSignatureBook(engine),
        PostgresTeamRules(engine, allow_unsafe_without_team=True),
    )
    await engine.dispose()


async def test_rules_are_those_of_the_team_and_the_strictest_for_one_that_is_not_known(books: Books) -> None:
    assert await books.rules.rules("vision") == VISION
    assert await books.rules.rules("") == TeamRules(allow_unsafe=True)
    assert await books.rules.rules("nobody") == TeamRules("nobody")


async def test_a_signature_is_kept_and_replaced(books: Books) -> None:
    version = await books.catalogue.register(new())
    assert version.signature is None
    assert await books.signatures.find(version.version_id) is None
    kept = KeptSignature(b"\0\1", CHECKED, None, "trust")
    await books.signatures.keep(version.version_id, kept)
    assert await books.signatures.find(version.version_id) == kept
    other = KeptSignature(b"\2", Signature("public-key", False, "", "no", CHECKED.checked_at), False, "others")
    await books.signatures.keep(version.version_id, other)
    assert await books.signatures.find(version.version_id) == other


async def test_signatures_that_come_are_in_the_audit_log_and_further_checks_are_not(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA, pool_size=2)
    version = await PostgresCatalogue(engine).register(new())
    log = PostgresChangeLog(engine)
    last, book = await log.last(), PostgresSignatureBook(engine)
    await book.keep(version.version_id, KeptSignature(b"\0", CHECKED, None, "trust"))
    await book.keep(version.version_id, KeptSignature(b"\0", CHECKED, None, "others"))
    await book.keep(version.version_id, KeptSignature(b"\1", CHECKED, None, "others"))
    told, _ = await log.behind(Wanted(), after=last, limit=9)
    assert [(one.resource_type, one.action) for one in told] == [("version", "updated")] * 2
    assert told[0].before is not None
    assert "signature" not in told[0].before
    assert "ada" in str((told[0].after or {})["signature"])
    await engine.dispose()


async def test_versions_show_their_signature(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA, pool_size=2)
    catalogue = PostgresCatalogue(engine)
    version = await catalogue.register(new())
    await PostgresSignatureBook(engine).keep(version.version_id, KeptSignature(b"x", CHECKED, True, ""))
    found = await catalogue.version("iris", "v1.0.0")
    assert found is not None
    assert found.signature == CHECKED
    await engine.dispose()
