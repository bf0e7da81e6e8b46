"""Which rollout decides a model's shares at the moment, and whether its predictions are logged in full."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the columns."""
    op.execute("""
        ALTER TABLE traffic_rules
            ADD COLUMN governing_rule text NOT NULL DEFAULT '',
            ADD COLUMN log_labels boolean NOT NULL DEFAULT false
    """)


def downgrade() -> None:
    """Drops them."""
    op.execute("ALTER TABLE traffic_rules DROP COLUMN governing_rule, DROP COLUMN log_labels")
