"""Summaries of features and outputs, baselines and drift reports."""

from alembic import op

revision = "0008"
down_revision = "0007"

_STATEMENTS = (
    """
    CREATE TABLE drift_slices (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        model_id text NOT NULL,
        version_id text NOT NULL,
        "timestamp" timestamptz NOT NULL,
        span_minutes integer NOT NULL,
        row_count bigint NOT NULL,
        seen_count bigint NOT NULL,
        summary bytea NOT NULL,
        PRIMARY KEY ("timestamp", id)
    ) PARTITION BY RANGE ("timestamp")
    """,
    'CREATE INDEX drift_slices_version ON drift_slices (model_id, version_id, "timestamp")',
    """
    COMMENT ON TABLE drift_slices IS 'Sketches of features and outputs by version and slot, as
 services/monitor/domain/drift/summary.py encodes them; parts of one slot add up.'
    """,
    """
    CREATE TABLE drift_baselines (
        baseline_id text PRIMARY KEY,
        model_id text NOT NULL,
        version_id text NOT NULL,
        sample_uri text NOT NULL,
        window_start timestamptz,
        window_end timestamptz,
        status text NOT NULL CHECK (status IN ('pending', 'active', 'superseded', 'failed')),
        status_message text NOT NULL DEFAULT '',
        row_count bigint NOT NULL DEFAULT 0,
        summary bytea,
        request_id text,
        claimed_until timestamptz,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        UNIQUE (model_id, request_id)
    )
    """,
    """
    CREATE UNIQUE INDEX drift_baselines_active ON drift_baselines (model_id, version_id) WHERE status = 'active'
    """,
    "CREATE INDEX drift_baselines_model ON drift_baselines (model_id, created_at DESC, baseline_id DESC)",
    "COMMENT ON TABLE drift_baselines IS 'What versions are compared with; one of each version is active.'",
    """
    CREATE TABLE drift_reports (
        report_id text PRIMARY KEY,
        model_id text NOT NULL,
        version_id text NOT NULL,
        baseline_id text NOT NULL,
        window_start timestamptz NOT NULL,
        window_end timestamptz NOT NULL,
        row_count bigint NOT NULL,
        severity text NOT NULL CHECK (severity IN ('none', 'moderate', 'high')),
        moderate_count integer NOT NULL,
        high_count integer NOT NULL,
        feature_count integer NOT NULL,
        features jsonb NOT NULL,
        auc double precision NOT NULL,
        expected_accuracy double precision,
        anomalies text[] NOT NULL,
        scheduled boolean NOT NULL,
        request_id text,
        created_at timestamptz NOT NULL,
        UNIQUE (model_id, request_id)
    )
    """,
    """
    CREATE UNIQUE INDEX drift_reports_scheduled ON drift_reports (baseline_id, window_start) WHERE scheduled
    """,
    "CREATE INDEX drift_reports_model ON drift_reports (model_id, created_at DESC, report_id DESC)",
    "COMMENT ON TABLE drift_reports IS 'Comparisons of windows of traffic with baselines.'",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops them."""
    for table in ("drift_reports", "drift_baselines", "drift_slices"):
        op.execute(f"DROP TABLE {table}")
