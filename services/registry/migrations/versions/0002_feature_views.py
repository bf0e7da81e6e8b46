"""The features that versions take from a feature store."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column; versions registered before have no views."""
    op.execute("ALTER TABLE model_versions ADD COLUMN feature_views jsonb NOT NULL DEFAULT '[]'")
    op.execute("COMMENT ON COLUMN model_versions.feature_views IS 'What batchers add from a feature store.'")


def downgrade() -> None:
    """Drops it."""
    op.execute("ALTER TABLE model_versions DROP COLUMN feature_views")
