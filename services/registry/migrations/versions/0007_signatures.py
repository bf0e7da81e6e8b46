"""The signatures that came with versions, and how their last check came out."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Makes the table."""
    op.execute(
        """
        CREATE TABLE version_signatures (
            version_id uuid PRIMARY KEY REFERENCES model_versions ON DELETE CASCADE,
            content bytea NOT NULL,
            kind text NOT NULL CHECK (kind IN ('sigstore', 'public-key')),
            verified boolean NOT NULL,
            signer text NOT NULL,
            problem text NOT NULL,
            fits boolean,
            trust text NOT NULL,
            checked_at timestamptz NOT NULL
        )
        """
    )


def downgrade() -> None:
    """Drops it."""
    op.execute("DROP TABLE version_signatures")
