"""What deployments were asked for, for forecasts."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Requests of five minutes each, by model and deployment: they outlive a deployment that is made anew."""
    op.execute("""
        CREATE TABLE request_history (
            model_id text NOT NULL,
            deployment_name text NOT NULL,
            started_at timestamptz NOT NULL,
            known_s double precision NOT NULL,
            requests double precision NOT NULL,
            version_id text NOT NULL,
            decisions integer NOT NULL,
            short integer NOT NULL,
            per_replica double precision NOT NULL,
            PRIMARY KEY (model_id, deployment_name, started_at)
        )
    """)
    op.execute("CREATE INDEX request_history_started_at ON request_history USING brin (started_at)")
    op.execute("""
        COMMENT ON TABLE request_history IS 'Requests of deployments with autoscaling.predictive, by five minutes; 28
 days are kept. Requests per second are requests / known_s.'
    """)


def downgrade() -> None:
    """Forgets it."""
    op.execute("DROP TABLE request_history")
