"""Usage by hour, team, model and version; bytes stored by hour; the price table."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    # Names are compared byte by byte, so that pages are in the same order wherever the database stands.
    """
    CREATE TABLE team_usage (
        team text COLLATE "C" NOT NULL,
        model_id text COLLATE "C" NOT NULL,
        version_id text COLLATE "C" NOT NULL,
        hour timestamptz NOT NULL,
        request_count bigint NOT NULL,
        prediction_count bigint NOT NULL,
        serving_us bigint NOT NULL,
        compute_us bigint NOT NULL,
        gpu_milli_us numeric NOT NULL,
        PRIMARY KEY (team, model_id, version_id, hour)
    )
    """,
    "CREATE INDEX team_usage_hour ON team_usage (hour, team, model_id, version_id)",
    """
    COMMENT ON TABLE team_usage IS 'What callers'' teams used, as it is charged. Added to in the transaction that moves
 the position of the log. Kept for good.'
    """,
    """
    CREATE TABLE team_storage_samples (
        hour timestamptz PRIMARY KEY,
        sampled_at timestamptz
    )
    """,
    """
    COMMENT ON TABLE team_storage_samples IS 'The hours of which it is known what was stored. sampled_at is null where
 the hour was missed and has what was known before it.'
    """,
    """
    CREATE TABLE team_storage (
        team text COLLATE "C" NOT NULL,
        model_id text COLLATE "C" NOT NULL,
        hour timestamptz NOT NULL REFERENCES team_storage_samples,
        stored_bytes bigint NOT NULL,
        PRIMARY KEY (team, model_id, hour)
    )
    """,
    "CREATE INDEX team_storage_hour ON team_storage (hour, team, model_id)",
    """
    CREATE TABLE price_table (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        currency text NOT NULL DEFAULT '',
        per_1000_requests numeric NOT NULL DEFAULT 0 CHECK (per_1000_requests >= 0),
        per_compute_hour numeric NOT NULL DEFAULT 0 CHECK (per_compute_hour >= 0),
        per_gpu_hour numeric NOT NULL DEFAULT 0 CHECK (per_gpu_hour >= 0),
        per_gb_month numeric NOT NULL DEFAULT 0 CHECK (per_gb_month >= 0),
        revision bigint NOT NULL DEFAULT 0,
        updated_at timestamptz
    )
    """,
    "INSERT INTO price_table DEFAULT VALUES",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops the tables and what they hold."""
    for table in ("price_table", "team_storage", "team_storage_samples", "team_usage"):
        op.execute(f"DROP TABLE {table}")
