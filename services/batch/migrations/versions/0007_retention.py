"""Jobs are forgotten some time after their end: which those are, and their failed rows, are found by indexes."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Makes the indexes. Without the second, each chunk that goes would look through all failed rows of its job."""
    op.execute(
        "CREATE INDEX batch_jobs_ended ON batch_jobs (completed_at) "
        "WHERE status IN ('completed', 'failed', 'cancelled')"
    )
    op.execute("CREATE INDEX batch_failed_rows_chunk ON batch_failed_rows (job_id, chunk_index)")


def downgrade() -> None:
    """Drops them."""
    op.execute("DROP INDEX batch_failed_rows_chunk")
    op.execute("DROP INDEX batch_jobs_ended")
