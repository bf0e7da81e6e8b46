"""Schedules, and which of them made a job."""

from alembic import op

revision = "0006"
down_revision = "0005"

_STATEMENTS = (
    """
    CREATE TABLE batch_schedules (
        schedule_id text PRIMARY KEY,
        schedule_name text NOT NULL,
        cron text NOT NULL,
        time_zone text NOT NULL,
        template jsonb NOT NULL,
        model_id text NOT NULL,
        overlap text NOT NULL CHECK (overlap IN ('skip', 'queue', 'replace')),
        paused boolean NOT NULL,
        next_at timestamptz,
        waiting timestamptz[] NOT NULL DEFAULT '{}',
        runs bigint NOT NULL DEFAULT 0,
        last_job_id text NOT NULL DEFAULT '',
        last_run_at timestamptz,
        last_error text NOT NULL DEFAULT '',
        turn bigint NOT NULL DEFAULT 1,
        revision integer NOT NULL DEFAULT 1,
        created_by text NOT NULL DEFAULT '',
        team text NOT NULL DEFAULT '',
        request_id text,
        request_digest text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT batch_schedules_name UNIQUE (team, schedule_name),
        CONSTRAINT batch_schedules_request UNIQUE (team, request_id)
    )
    """,
    "COMMENT ON COLUMN batch_schedules.next_at IS 'The next moment that nothing was decided for.'",
    "CREATE INDEX batch_schedules_due ON batch_schedules (next_at) WHERE NOT paused",
    "ALTER TABLE batch_jobs ADD COLUMN schedule_id text NOT NULL DEFAULT ''",
    "CREATE INDEX batch_jobs_schedule ON batch_jobs (schedule_id, sequence DESC) WHERE schedule_id <> ''",
)


def upgrade() -> None:
    """Makes the table."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops it; jobs that schedules made stay."""
    op.execute("DROP INDEX batch_jobs_schedule")
    op.execute("ALTER TABLE batch_jobs DROP COLUMN schedule_id")
    op.execute("DROP TABLE batch_schedules")
