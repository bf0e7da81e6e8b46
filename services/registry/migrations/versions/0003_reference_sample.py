"""Reference samples, kept by their digest, and which version has which."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    """
    CREATE TABLE reference_samples (
        digest text COLLATE "C" PRIMARY KEY CHECK (digest ~ '^[0-9a-f]{64}$'),
        created_at timestamptz NOT NULL DEFAULT now(),
        content bytea NOT NULL CHECK (octet_length(content) <= 1048576)
    )
    """,
    """
    ALTER TABLE model_versions
        ADD COLUMN reference_digest text COLLATE "C" REFERENCES reference_samples,
        ADD COLUMN reference_rows integer NOT NULL DEFAULT 0 CHECK (reference_rows BETWEEN 0 AND 256)
    """,
)


def upgrade() -> None:
    """Adds the table and the columns."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops them, and the samples with them."""
    op.execute("ALTER TABLE model_versions DROP COLUMN reference_rows, DROP COLUMN reference_digest")
    op.execute("DROP TABLE reference_samples")
