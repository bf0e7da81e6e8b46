"""A version answers in one place: on this machine's model servers or in one cluster."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Until now there was but one cluster, so that no row is in the way."""
    op.execute("ALTER TABLE deployments DROP CONSTRAINT deployments_version")
    op.execute("ALTER TABLE deployments ADD CONSTRAINT deployments_version UNIQUE (model_id, version_id)")


def downgrade() -> None:
    """As it was."""
    op.execute("ALTER TABLE deployments DROP CONSTRAINT deployments_version")
    op.execute("ALTER TABLE deployments ADD CONSTRAINT deployments_version UNIQUE (model_id, version_id, cluster)")
