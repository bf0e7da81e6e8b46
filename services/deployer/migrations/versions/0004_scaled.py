"""What autoscaling made of the number of replicas."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """NULL: as many as are wished."""
    op.execute("ALTER TABLE deployments ADD COLUMN scaled_replicas integer")


def downgrade() -> None:
    """As many as are wished."""
    op.execute("ALTER TABLE deployments DROP COLUMN scaled_replicas")
