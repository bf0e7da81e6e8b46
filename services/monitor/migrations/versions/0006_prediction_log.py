"""The prediction log as it is searched, what of it is logged, and its exports."""

from alembic import op

revision = "0006"
down_revision = "0005"

_UP = (
    # With all that a search may ask for behind the model, and the row's id, by which pages go on.
    "DROP INDEX inference_logs_model",
    'CREATE INDEX inference_logs_time ON inference_logs (model_id, "timestamp", id)',
    'CREATE INDEX inference_logs_version ON inference_logs (model_id, version_id, "timestamp", id)',
    """
    CREATE INDEX inference_logs_user ON inference_logs (model_id, user_id, "timestamp", id) WHERE user_id IS NOT NULL
    """,
    """
    CREATE INDEX inference_logs_error ON inference_logs (model_id, "timestamp", id) WHERE error_message IS NOT NULL
    """,
    "ALTER TABLE log_drops ADD COLUMN unkept_count bigint NOT NULL DEFAULT 0",
    """
    COMMENT ON COLUMN log_drops.unkept_count IS 'Requests that were counted and would have been logged, but found no
 room in the monitor.'
    """,
    """
    CREATE TABLE logging_policies (
        model_id text NOT NULL,
        version_id text NOT NULL,
        sample_rate double precision NOT NULL CHECK (sample_rate BETWEEN 0 AND 1),
        log_input_hash boolean NOT NULL,
        log_output boolean NOT NULL,
        redacted_fields text[] NOT NULL,
        revision bigint NOT NULL,
        change bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (model_id, version_id)
    )
    """,
    "CREATE UNIQUE INDEX logging_policies_change ON logging_policies (change)",
    "CREATE SEQUENCE logging_policy_changes",
    "COMMENT ON TABLE logging_policies IS 'What is logged of a model (version_id empty) or a version of it.'",
    """
    CREATE TABLE log_exports (
        export_id text PRIMARY KEY,
        model_id text NOT NULL,
        start_time timestamptz NOT NULL,
        end_time timestamptz NOT NULL,
        format text NOT NULL CHECK (format IN ('parquet', 'bulk_json')),
        output_uri text NOT NULL,
        status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'completed', 'failed')),
        status_message text NOT NULL DEFAULT '',
        row_count bigint NOT NULL DEFAULT 0,
        part_number integer NOT NULL DEFAULT 0,
        part_planned boolean NOT NULL DEFAULT false,
        part_after_time timestamptz,
        part_after_id uuid,
        part_last_time timestamptz,
        part_last_id uuid,
        attempts integer NOT NULL DEFAULT 0,
        created_by text NOT NULL,
        team text NOT NULL,
        request_id text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        completed_at timestamptz,
        lease_owner text,
        lease_token bigint NOT NULL DEFAULT 0,
        lease_until timestamptz
    )
    """,
    "CREATE UNIQUE INDEX log_exports_request ON log_exports (team, created_by, request_id) WHERE request_id <> ''",
    """
    CREATE UNIQUE INDEX log_exports_output ON log_exports (output_uri) WHERE status IN ('pending', 'running')
    """,
    "CREATE INDEX log_exports_created ON log_exports (created_at)",
    """
    COMMENT ON COLUMN log_exports.part_number IS 'The file under way. It has the rows behind part_after, up to and with
 part_last, or to the end of the window; where it is planned already, whoever goes on writes the same rows.'
    """,
)
_DOWN = (
    "DROP TABLE log_exports",
    "DROP SEQUENCE logging_policy_changes",
    "DROP TABLE logging_policies",
    "ALTER TABLE log_drops DROP COLUMN unkept_count",
    "DROP INDEX inference_logs_error",
    "DROP INDEX inference_logs_user",
    "DROP INDEX inference_logs_version",
    "DROP INDEX inference_logs_time",
    'CREATE INDEX inference_logs_model ON inference_logs (model_id, "timestamp" DESC)',
)


def upgrade() -> None:
    """Makes the indexes and tables."""
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Drops them and what they hold."""
    for statement in _DOWN:
        op.execute(statement)
