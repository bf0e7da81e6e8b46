"""What rollouts are judged by: sums by the second, watches, predictions under test, outcomes, shadows; and alerts."""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    # Rows live for a quarter of an hour, so what they leave behind must be taken up often.
    """
    CREATE TABLE second_cells (
        model_id text NOT NULL,
        version_id text NOT NULL,
        "timestamp" timestamptz NOT NULL,
        answered_count bigint NOT NULL,
        cell text NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0.05)
    """,
    'CREATE INDEX second_cells_model ON second_cells (model_id, "timestamp")',
    'CREATE INDEX second_cells_time ON second_cells ("timestamp")',
    """
    COMMENT ON TABLE second_cells IS 'Sums per model, version and second, several rows of the same add up; as
 services/monitor/domain/seconds.py encodes them. Kept where a watch begins in their minute, else for minutes.'
    """,
    """
    CREATE TABLE evidence_watches (
        model_id text NOT NULL,
        start_time timestamptz NOT NULL,
        begins_at timestamptz NOT NULL,
        asked_at timestamptz NOT NULL,
        PRIMARY KEY (model_id, start_time)
    )
    """,
    """
    COMMENT ON TABLE evidence_watches IS 'Windows that someone watches. begins_at is later than start_time where the
 seconds of its first minute are not known.'
    """,
    """
    CREATE TABLE late_changes (
        model_id text PRIMARY KEY,
        change_count bigint NOT NULL
    )
    """,
    "COMMENT ON TABLE late_changes IS 'How often something was counted into minutes of a model that were past.'",
    """
    CREATE TABLE log_drops (
        "timestamp" timestamptz PRIMARY KEY,
        dropped_count bigint NOT NULL
    )
    """,
    """
    CREATE TABLE prediction_labels (
        request_id text NOT NULL,
        model_id text NOT NULL,
        version_id text NOT NULL,
        "timestamp" timestamptz NOT NULL,
        classes text[],
        numbers double precision[]
    ) PARTITION BY RANGE ("timestamp")
    """,
    "CREATE INDEX prediction_labels_request ON prediction_labels USING hash (request_id)",
    """
    COMMENT ON TABLE prediction_labels IS 'Every callers'' request of versions under test, with what was predicted for
 each of its rows.'
    """,
    """
    CREATE TABLE outcomes (
        request_id text NOT NULL,
        instance_index integer NOT NULL,
        ground_truth jsonb,
        metrics jsonb NOT NULL DEFAULT '{}',
        observed_at timestamptz NOT NULL,
        reported_at timestamptz NOT NULL,
        model_id text,
        version_id text,
        predicted_at timestamptz,
        predicted_class text,
        predicted_number double precision,
        counted jsonb NOT NULL DEFAULT '{}',
        PRIMARY KEY (request_id, instance_index)
    )
    """,
    "CREATE INDEX outcomes_waiting ON outcomes (request_id) WHERE predicted_at IS NULL",
    "CREATE INDEX outcomes_reported ON outcomes (reported_at)",
    """
    COMMENT ON TABLE outcomes IS 'What became of predictions. model_id to predicted_number are set once the request is
 known; counted is what it then added to outcome_sums.'
    """,
    """
    CREATE TABLE outcome_sums (
        model_id text NOT NULL,
        version_id text NOT NULL,
        metric_name text NOT NULL,
        granularity text NOT NULL CHECK (granularity IN ('second', 'minute', 'hour')),
        "timestamp" timestamptz NOT NULL,
        value_count bigint NOT NULL,
        value_sum numeric NOT NULL,
        square_sum numeric NOT NULL,
        PRIMARY KEY (model_id, granularity, "timestamp", version_id, metric_name)
    )
    """,
    'CREATE INDEX outcome_sums_time ON outcome_sums (granularity, "timestamp")',
    """
    COMMENT ON TABLE outcome_sums IS 'Outcomes by the moment of their prediction. Exact decimals, so that replacing an
 outcome takes out just what it had put in.'
    """,
    """
    CREATE TABLE shadow_examples (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        model_id text NOT NULL,
        shadow_version text NOT NULL,
        primary_version text NOT NULL,
        "timestamp" timestamptz NOT NULL,
        request_id text NOT NULL,
        row_index bigint NOT NULL,
        primary_output text NOT NULL,
        shadow_output text NOT NULL,
        difference double precision NOT NULL
    )
    """,
    """
    CREATE INDEX shadow_examples_pair
        ON shadow_examples (model_id, shadow_version, primary_version, "timestamp" DESC, request_id)
    """,
    """
    CREATE TABLE rollout_events (
        event_id text PRIMARY KEY,
        kind text NOT NULL,
        model_id text NOT NULL,
        version_id text NOT NULL,
        subject text NOT NULL,
        severity text NOT NULL,
        summary text NOT NULL,
        probable_cause text NOT NULL,
        undo_command text NOT NULL,
        value double precision NOT NULL,
        "timestamp" timestamptz NOT NULL,
        received_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX rollout_events_time ON rollout_events (received_at)",
    "CREATE SEQUENCE alert_changes",
    """
    CREATE TABLE alerts (
        alert_id text PRIMARY KEY,
        rule_name text NOT NULL,
        subject text NOT NULL,
        model_id text NOT NULL,
        version_id text NOT NULL,
        severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
        status text NOT NULL CHECK (status IN ('firing', 'acknowledged', 'resolved')),
        summary text NOT NULL,
        probable_cause text NOT NULL,
        undo_command text NOT NULL,
        value double precision NOT NULL,
        started_at timestamptz NOT NULL,
        fired_at timestamptz NOT NULL,
        resolved_at timestamptz,
        acknowledged_by text NOT NULL DEFAULT '',
        acknowledged_at timestamptz,
        acknowledgement_note text NOT NULL DEFAULT '',
        change bigint NOT NULL
    )
    """,
    "CREATE INDEX alerts_open ON alerts (model_id, subject) WHERE status <> 'resolved'",
    "CREATE INDEX alerts_fired ON alerts (fired_at DESC, alert_id DESC)",
    "CREATE INDEX alerts_change ON alerts (change)",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops the tables and what they hold."""
    for table in (
        "alerts",
        "rollout_events",
        "shadow_examples",
        "outcome_sums",
        "outcomes",
        "prediction_labels",
        "log_drops",
        "late_changes",
        "evidence_watches",
        "second_cells",
    ):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP SEQUENCE alert_changes")
