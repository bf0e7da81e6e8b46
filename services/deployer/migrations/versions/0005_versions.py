"""Deployments change their version: the older ones stay for a while, and what happened is kept."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    "ALTER TABLE deployments ADD COLUMN successor_id uuid",
    "ALTER TABLE deployments ADD COLUMN previous_version text NOT NULL DEFAULT ''",
    "ALTER TABLE deployments ADD COLUMN warm_until timestamptz",
    "ALTER TABLE deployments DROP CONSTRAINT deployments_name",
    "CREATE UNIQUE INDEX deployments_name ON deployments (model_id, deployment_name) WHERE successor_id IS NULL",
    "CREATE INDEX deployments_successor ON deployments (successor_id) WHERE successor_id IS NOT NULL",
    """
    COMMENT ON COLUMN deployments.successor_id IS 'Set on an older version: the id of the deployment that has another
 version now. NULL: it is the deployment itself, whose name is unique in its model.'
    """,
    """
    CREATE TABLE deployment_events (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        time timestamptz NOT NULL DEFAULT clock_timestamp(),
        model_id text NOT NULL,
        deployment_name text NOT NULL,
        type text NOT NULL,
        status text NOT NULL,
        message text NOT NULL,
        actor text NOT NULL,
        generation integer NOT NULL
    )
    """,
    "CREATE INDEX deployment_events_deployment ON deployment_events (model_id, deployment_name, id DESC)",
    "CREATE INDEX deployment_events_time ON deployment_events USING brin (time)",
    "COMMENT ON TABLE deployment_events IS 'What happened to deployments; 30 days are kept.'",
)


def upgrade() -> None:
    """Older versions beside the current one, and events."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Forgets older versions and events."""
    op.execute("DROP TABLE deployment_events")
    op.execute("DELETE FROM deployments WHERE successor_id IS NOT NULL")
    op.execute("DROP INDEX deployments_successor")
    op.execute("DROP INDEX deployments_name")
    op.execute("ALTER TABLE deployments ADD CONSTRAINT deployments_name UNIQUE (model_id, deployment_name)")
    for column in ("successor_id", "previous_version", "warm_until"):
        op.execute(f"ALTER TABLE deployments DROP COLUMN {column}")
