"""Teams apart: one team's request ids are nothing to another's, and its deployments are found by it."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Request ids are unique within a team."""
    op.execute("ALTER TABLE deployments DROP CONSTRAINT deployments_request")
    op.execute("ALTER TABLE deployments ADD CONSTRAINT deployments_request UNIQUE (team_id, request_id)")


def downgrade() -> None:
    """Request ids are unique in the mesh."""
    op.execute("ALTER TABLE deployments DROP CONSTRAINT deployments_request")
    op.execute("ALTER TABLE deployments ADD CONSTRAINT deployments_request UNIQUE (request_id)")
