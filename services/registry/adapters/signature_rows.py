"""Signatures of versions in PostgreSQL."""

from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.registry.adapters.database import transaction
from services.registry.adapters.noting import note_version
from services.registry.adapters.queries import VERSIONS
from services.registry.adapters.rows import version_of
from services.registry.domain.access import EVERYBODY
from services.registry.domain.signatures import KeptSignature, Signature

_FIND = text("SELECT * FROM version_signatures WHERE version_id = CAST(:version_id AS uuid)")
_FIND_FOR = text("SELECT content FROM version_signatures WHERE version_id = CAST(:version_id AS uuid) FOR UPDATE")
_WHOLE = text(f"{VERSIONS} AND v.id = CAST(:version_id AS uuid)")
_KEEP = text("""
    INSERT INTO version_signatures (version_id, content, kind, verified, signer, problem, fits, trust, checked_at)
    VALUES (CAST(:version_id AS uuid), :content, :kind, :verified, :signer, :problem, :fits, :trust, :checked_at)
    ON CONFLICT (version_id) DO UPDATE SET content = EXCLUDED.content, kind = EXCLUDED.kind,
        verified = EXCLUDED.verified, signer = EXCLUDED.signer, problem = EXCLUDED.problem, fits = EXCLUDED.fits,
        trust = EXCLUDED.trust, checked_at = EXCLUDED.checked_at
""")


class PostgresSignatureBook:
    """A `SignatureBook`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, version_id: str) -> KeptSignature | None:
        """The signature of a version."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, {"version_id": version_id})).mappings().one_or_none()
        if row is None:
            return None
        signature = Signature(row["kind"], row["verified"], row["signer"], row["problem"], row["checked_at"])
        return KeptSignature(bytes(row["content"]), signature, row["fits"], row["trust"])

    async def keep(self, version_id: str, kept: KeptSignature) -> None:
        """Keeps a signature with its check, in place of any before."""
        signature = kept.signature
        asked = {"version_id": version_id, "viewer": EVERYBODY}
        async with transaction(self._engine) as connection:
            before = (await connection.execute(_FIND_FOR, asked)).scalar_one_or_none()
            whole = version_of((await connection.execute(_WHOLE, asked)).mappings().one())
            await connection.execute(
                _KEEP,
                {
                    "version_id": version_id,
                    "content": kept.content,
                    "kind": signature.kind,
                    "verified": signature.verified,
                    "signer": signature.signer,
                    "problem": signature.problem,
                    "fits": kept.fits,
                    "trust": kept.trust,
                    "checked_at": signature.checked_at,
                },
            )
            if before is None or bytes(before) != kept.content:
                # Another check of the same signature is no change of what was registered.
                after = replace(whole, signature=signature)
                await note_version(connection, whole, after, action="updated", reason="a signature came")
