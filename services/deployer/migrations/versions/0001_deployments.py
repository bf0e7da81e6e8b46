"""The deployer's tables: deployments, and the revision of what is published."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE deployments (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        model_id text NOT NULL,
        version_id text NOT NULL,
        deployment_name text NOT NULL,
        environment text NOT NULL CHECK (environment IN ('prod', 'staging', 'dev')),
        cluster text NOT NULL,
        namespace text NOT NULL,
        status text NOT NULL DEFAULT 'pending'
            CHECK (status IN ('pending', 'deploying', 'active', 'failed', 'terminating')),
        health_status text NOT NULL DEFAULT 'unhealthy' CHECK (health_status IN ('healthy', 'unhealthy', 'degraded')),
        replicas integer NOT NULL,
        ready_replicas integer NOT NULL DEFAULT 0,
        resources jsonb NOT NULL,
        autoscaling_config jsonb,
        batching_config jsonb NOT NULL,
        serving_options jsonb NOT NULL,
        traffic_split jsonb NOT NULL,
        endpoint_url text NOT NULL DEFAULT '',
        deployed_at timestamptz,
        team_id text NOT NULL DEFAULT '',
        created_by text NOT NULL DEFAULT '',
        request_id text,
        generation integer NOT NULL DEFAULT 1,
        observed_generation integer NOT NULL DEFAULT 0,
        deleting boolean NOT NULL DEFAULT false,
        recipe jsonb NOT NULL,
        loaded jsonb NOT NULL DEFAULT '{}',
        error_reason text NOT NULL DEFAULT '',
        error_message text NOT NULL DEFAULT '',
        conditions jsonb NOT NULL DEFAULT '[]',
        attempts integer NOT NULL DEFAULT 0,
        next_attempt_at timestamptz,
        load_time_ms double precision NOT NULL DEFAULT 0,
        memory_bytes double precision NOT NULL DEFAULT 0,
        withdrawn_at timestamptz,
        traffic_routed boolean NOT NULL DEFAULT false,
        CONSTRAINT deployments_name UNIQUE (model_id, deployment_name),
        CONSTRAINT deployments_version UNIQUE (model_id, version_id, cluster),
        CONSTRAINT deployments_request UNIQUE (request_id)
    )
    """,
    """
    COMMENT ON TABLE deployments IS 'What is wished of a version and what has come of it; model_id, version_id and
 team_id are names.'
    """,
    "CREATE SEQUENCE backend_revision",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops them, with all that they hold."""
    op.execute("DROP TABLE deployments")
    op.execute("DROP SEQUENCE backend_revision")
