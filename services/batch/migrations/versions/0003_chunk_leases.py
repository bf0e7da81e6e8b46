"""Chunks are leased one by one, so that several workers do the chunks of one job."""

from alembic import op

revision = "0003"
down_revision = "0002"

_UP = (
    """
    ALTER TABLE batch_chunks ADD COLUMN lease_owner text, ADD COLUMN lease_token bigint NOT NULL DEFAULT 0,
        ADD COLUMN lease_until timestamptz
    """,
    """
    COMMENT ON COLUMN batch_chunks.lease_token IS 'Of the newest lease; whoever holds another one can record nothing.
 Tokens come from one sequence, so that none is given out twice, also where a job is cut anew.'
    """,
    "CREATE SEQUENCE batch_chunk_leases",
    "CREATE INDEX batch_chunks_open ON batch_chunks (job_id, index) WHERE part_name IS NULL",
    """
    CREATE INDEX batch_chunks_leased ON batch_chunks (job_id) WHERE part_name IS NULL AND lease_until IS NOT NULL
    """,
)
_DOWN = (
    "DROP INDEX batch_chunks_leased",
    "DROP INDEX batch_chunks_open",
    "DROP SEQUENCE batch_chunk_leases",
    "ALTER TABLE batch_chunks DROP COLUMN lease_owner, DROP COLUMN lease_token, DROP COLUMN lease_until",
)


def upgrade() -> None:
    """Adds the leases."""
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Forgets them."""
    for statement in _DOWN:
        op.execute(statement)
