"""Deployments that are unloaded because nobody asks for them."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """When a deployment fell asleep; NULL: it is awake."""
    op.execute("ALTER TABLE deployments ADD COLUMN asleep_since timestamptz")


def downgrade() -> None:
    """All are taken for awake, and are loaded."""
    op.execute("ALTER TABLE deployments DROP COLUMN asleep_since")
