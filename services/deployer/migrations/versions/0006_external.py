"""Deployments on servers that users run themselves."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """NULL: on the deployer's own servers."""
    op.execute("ALTER TABLE deployments ADD COLUMN external_backend jsonb")


def downgrade() -> None:
    """What ran on external servers is forgotten: without them nothing says where it is."""
    op.execute("DELETE FROM deployments WHERE external_backend IS NOT NULL")
    op.execute("ALTER TABLE deployments DROP COLUMN external_backend")
