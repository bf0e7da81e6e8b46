"""Since when none of a job's workers has had an answer from the model."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """NULL: some had, or none has asked."""
    op.execute("ALTER TABLE batch_jobs ADD COLUMN silent_since timestamptz")


def downgrade() -> None:
    """Drops it."""
    op.execute("ALTER TABLE batch_jobs DROP COLUMN silent_since")
