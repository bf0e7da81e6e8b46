"""Usage and storage by UTC day beside hours, so that months and years are read from few rows."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    """
    CREATE TABLE team_usage_days (
        team text COLLATE "C" NOT NULL,
        model_id text COLLATE "C" NOT NULL,
        version_id text COLLATE "C" NOT NULL,
        day timestamptz NOT NULL,
        request_count bigint NOT NULL,
        prediction_count bigint NOT NULL,
        serving_us numeric NOT NULL,
        compute_us numeric NOT NULL,
        gpu_milli_us numeric NOT NULL,
        PRIMARY KEY (team, model_id, version_id, day)
    )
    """,
    "CREATE INDEX team_usage_days_day ON team_usage_days (day, team, model_id)",
    """
    INSERT INTO team_usage_days
    SELECT team, model_id, version_id, date_trunc('day', hour, 'UTC'), sum(request_count), sum(prediction_count),
           sum(serving_us), sum(compute_us), sum(gpu_milli_us)
    FROM team_usage GROUP BY 1, 2, 3, 4
    """,
    """
    CREATE TABLE team_storage_days (
        team text COLLATE "C" NOT NULL,
        model_id text COLLATE "C" NOT NULL,
        day timestamptz NOT NULL,
        stored_byte_hours numeric NOT NULL,
        PRIMARY KEY (team, model_id, day)
    )
    """,
    "CREATE INDEX team_storage_days_day ON team_storage_days (day, team, model_id)",
    """
    INSERT INTO team_storage_days
    SELECT team, model_id, date_trunc('day', hour, 'UTC'), sum(stored_bytes) FROM team_storage GROUP BY 1, 2, 3
    """,
    """
    COMMENT ON TABLE team_usage_days IS 'team_usage by UTC day, added to in the same transaction, so they agree.'
    """,
)


def upgrade() -> None:
    """Makes the tables, of what is in those by hour."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops the tables; those by hour have it all."""
    op.execute("DROP TABLE team_storage_days")
    op.execute("DROP TABLE team_usage_days")
