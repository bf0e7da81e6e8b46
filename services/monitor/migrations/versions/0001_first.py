"""The monitor's tables: aggregates, latency sketches, the prediction log, positions of its streams, host usage.

The partitioned tables begin without partitions: the monitor makes them ahead of time and drops them past retention.
"""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE model_metrics (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        model_id text NOT NULL,
        version_id text NOT NULL,
        deployment_id text NOT NULL,
        metric_name text NOT NULL,
        metric_value double precision NOT NULL,
        "timestamp" timestamptz NOT NULL,
        granularity text NOT NULL CHECK (granularity IN ('minute', 'hour', 'day')),
        dimensions jsonb NOT NULL DEFAULT '{}',
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (model_id, granularity, "timestamp", version_id, deployment_id, metric_name, dimensions)
    ) PARTITION BY RANGE ("timestamp")
    """,
    """
    COMMENT ON TABLE model_metrics IS 'Sums per model, version, deployment and step; model_id, version_id and
 deployment_id are names. Values of equal metric_name and dimensions add up over steps and versions.'
    """,
    """
    CREATE TABLE latency_sketches (
        model_id text NOT NULL,
        version_id text NOT NULL,
        deployment_id text NOT NULL,
        "timestamp" timestamptz NOT NULL,
        granularity text NOT NULL CHECK (granularity IN ('minute', 'hour', 'day')),
        request_count bigint NOT NULL,
        sum_us bigint NOT NULL,
        sum_squares_us2 numeric NOT NULL,
        buckets bytea NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (model_id, granularity, "timestamp", version_id, deployment_id)
    ) PARTITION BY RANGE ("timestamp")
    """,
    """
    COMMENT ON TABLE latency_sketches IS 'Latencies of successful requests: exact moments, and counts of logarithmic
 buckets as services/monitor/domain/sketch.py encodes them.'
    """,
    """
    CREATE TABLE inference_logs (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        request_id text NOT NULL,
        model_id text NOT NULL,
        version_id text NOT NULL,
        deployment_id text NOT NULL,
        input_hash text,
        output json,
        latency_ms double precision NOT NULL,
        error_message text,
        "timestamp" timestamptz NOT NULL,
        user_id text,
        metadata jsonb NOT NULL DEFAULT '{}',
        PRIMARY KEY ("timestamp", id)
    ) PARTITION BY RANGE ("timestamp")
    """,
    'CREATE INDEX inference_logs_model ON inference_logs (model_id, "timestamp" DESC)',
    "CREATE INDEX inference_logs_request ON inference_logs USING hash (request_id)",
    """
    CREATE TABLE log_streams (
        batcher_id text NOT NULL,
        epoch_us bigint NOT NULL,
        sequence bigint NOT NULL,
        dropped_total bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (batcher_id, epoch_us)
    )
    """,
    "COMMENT ON TABLE log_streams IS 'How far the log of each run of each batcher is counted.'",
    """
    CREATE TABLE rolled_up (
        granularity text PRIMARY KEY CHECK (granularity IN ('hour', 'day')),
        until timestamptz NOT NULL
    )
    """,
    "COMMENT ON TABLE rolled_up IS 'Before this moment every step of the granularity is stored.'",
    """
    CREATE TABLE host_usage (
        host text NOT NULL,
        "timestamp" timestamptz NOT NULL,
        sample_count integer NOT NULL,
        cpu_percent_sum double precision NOT NULL,
        memory_percent_sum double precision NOT NULL,
        gpu_utilization_sum double precision NOT NULL,
        PRIMARY KEY ("timestamp", host)
    )
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops the tables and what they hold."""
    for table in ("host_usage", "rolled_up", "log_streams", "inference_logs", "latency_sketches", "model_metrics"):
        op.execute(f"DROP TABLE {table}")
