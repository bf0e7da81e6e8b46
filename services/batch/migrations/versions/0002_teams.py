"""Teams apart: one team's request ids are nothing to another's, and its running jobs are counted by it."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Request ids are unique within a team."""
    op.execute("ALTER TABLE batch_jobs DROP CONSTRAINT batch_jobs_request_id_key")
    op.execute("ALTER TABLE batch_jobs ADD CONSTRAINT batch_jobs_request UNIQUE (team, request_id)")
    op.execute("CREATE INDEX batch_jobs_team ON batch_jobs (team, sequence DESC)")


def downgrade() -> None:
    """Request ids are unique in the mesh."""
    op.execute("DROP INDEX batch_jobs_team")
    op.execute("ALTER TABLE batch_jobs DROP CONSTRAINT batch_jobs_request")
    op.execute("ALTER TABLE batch_jobs ADD CONSTRAINT batch_jobs_request_id_key UNIQUE (request_id)")
