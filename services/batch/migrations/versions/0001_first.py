"""The batch service's tables: jobs with their leases, the chunks of each and which are done, the rows that failed."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE batch_jobs (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        job_id text NOT NULL UNIQUE,
        sequence bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        job_name text NOT NULL,
        model_id text NOT NULL,
        version_id text NOT NULL,
        input_uri text NOT NULL,
        output_uri text NOT NULL,
        status text NOT NULL DEFAULT 'pending'
            CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
        paused boolean NOT NULL DEFAULT false,
        total_records bigint NOT NULL DEFAULT 0,
        processed_records bigint NOT NULL DEFAULT 0,
        failed_records bigint NOT NULL DEFAULT 0,
        total_chunks integer NOT NULL DEFAULT 0,
        completed_chunks integer NOT NULL DEFAULT 0,
        batch_size integer NOT NULL,
        max_parallelism integer NOT NULL,
        progress_percent double precision GENERATED ALWAYS AS (
            CASE WHEN total_records > 0 THEN 100.0 * processed_records / total_records
                 WHEN status = 'completed' THEN 100.0 ELSE 0.0 END) STORED,
        metrics jsonb NOT NULL DEFAULT '{}',
        running_s double precision NOT NULL DEFAULT 0,
        error_reason text NOT NULL DEFAULT '',
        error_message text NOT NULL DEFAULT '',
        spec jsonb NOT NULL,
        plan jsonb,
        labels jsonb NOT NULL DEFAULT '{}',
        attempt integer NOT NULL DEFAULT 1,
        revision integer NOT NULL DEFAULT 1,
        created_by text NOT NULL DEFAULT '',
        team text NOT NULL DEFAULT '',
        request_id text UNIQUE,
        request_digest text,
        lease_owner text,
        lease_token bigint NOT NULL DEFAULT 0,
        lease_until timestamptz,
        counted_at timestamptz,
        output_digest text NOT NULL DEFAULT '',
        cleaned boolean NOT NULL DEFAULT false,
        started_at timestamptz,
        completed_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CHECK (processed_records <= total_records AND failed_records <= processed_records)
    )
    """,
    """
    COMMENT ON COLUMN batch_jobs.lease_token IS 'Grows whenever the job changes hands or is taken away from its worker;
 whoever holds an older one can write nothing any more.'
    """,
    "CREATE INDEX batch_jobs_waiting ON batch_jobs (sequence) WHERE status IN ('pending', 'running')",
    "CREATE INDEX batch_jobs_model ON batch_jobs (model_id, sequence DESC)",
    "CREATE INDEX batch_jobs_unclean ON batch_jobs (sequence) WHERE NOT cleaned",
    """
    CREATE UNIQUE INDEX batch_jobs_output ON batch_jobs ((spec -> 'output' ->> 'path'))
    WHERE status IN ('pending', 'running')
    """,
    """
    CREATE TABLE batch_chunks (
        job_id text NOT NULL REFERENCES batch_jobs (job_id) ON DELETE CASCADE,
        index integer NOT NULL,
        first_row bigint NOT NULL,
        row_count integer NOT NULL,
        start_byte bigint NOT NULL,
        stop_byte bigint NOT NULL,
        part_name text,
        part_bytes bigint,
        part_rows integer,
        failed_rows integer NOT NULL DEFAULT 0,
        worker text NOT NULL DEFAULT '',
        completed_at timestamptz,
        PRIMARY KEY (job_id, index)
    )
    """,
    """
    CREATE TABLE batch_failed_rows (
        job_id text NOT NULL,
        row_number bigint NOT NULL,
        chunk_index integer NOT NULL,
        key text NOT NULL,
        error_reason text NOT NULL,
        error_message text NOT NULL,
        PRIMARY KEY (job_id, row_number),
        FOREIGN KEY (job_id, chunk_index) REFERENCES batch_chunks (job_id, index) ON DELETE CASCADE
    )
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops the tables and what they hold."""
    for table in ("batch_failed_rows", "batch_chunks", "batch_jobs"):
        op.execute(f"DROP TABLE {table}")
