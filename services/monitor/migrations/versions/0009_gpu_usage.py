"""What GPUs use, counted apart: most hosts have none, and none is not an idle one."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds the columns. What was summed before was of no GPU."""
    op.execute(
        "ALTER TABLE host_usage ADD COLUMN gpu_sample_count integer NOT NULL DEFAULT 0,"
        " ADD COLUMN gpu_memory_sample_count integer NOT NULL DEFAULT 0,"
        " ADD COLUMN gpu_memory_percent_sum double precision NOT NULL DEFAULT 0"
    )


def downgrade() -> None:
    """Drops them."""
    op.execute(
        "ALTER TABLE host_usage DROP COLUMN gpu_sample_count, DROP COLUMN gpu_memory_sample_count,"
        " DROP COLUMN gpu_memory_percent_sum"
    )
