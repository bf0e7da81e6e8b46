"""The router's tables: traffic rules, their history, the last good serving table, and the revisions given out."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE traffic_rules (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        model_id text NOT NULL,
        deployment_id text NOT NULL DEFAULT '',
        rule_name text NOT NULL,
        rule_type text NOT NULL CHECK (rule_type IN ('split', 'ab_test', 'canary', 'shadow')),
        version_weights jsonb NOT NULL,
        version_order jsonb NOT NULL DEFAULT '[]',
        routing_strategy text NOT NULL CHECK (routing_strategy IN ('round_robin', 'sticky', 'random')),
        sticky_key_header text NOT NULL DEFAULT '',
        conditions jsonb NOT NULL DEFAULT '[]',
        start_time timestamptz NOT NULL DEFAULT now(),
        end_time timestamptz,
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'completed')),
        success_criteria jsonb,
        auto_promote boolean NOT NULL DEFAULT false,
        created_by text NOT NULL DEFAULT '',
        updated_by text NOT NULL DEFAULT '',
        reason text NOT NULL DEFAULT '',
        generation integer NOT NULL DEFAULT 1,
        CONSTRAINT traffic_rules_name UNIQUE (model_id, rule_name)
    )
    """,
    """
    COMMENT ON TABLE traffic_rules IS 'What share of a model''s traffic each version gets. model_id and deployment_id
 are names; version_order holds the versions in the order of the split, which sticky keys depend on.'
    """,
    """
    CREATE TABLE traffic_changes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        changed_at timestamptz NOT NULL DEFAULT now(),
        model_id text NOT NULL,
        deployment_id text NOT NULL DEFAULT '',
        action text NOT NULL,
        actor text NOT NULL DEFAULT '',
        reason text NOT NULL DEFAULT '',
        before jsonb NOT NULL,
        after jsonb NOT NULL,
        generation integer NOT NULL,
        request_id text,
        request_digest text NOT NULL DEFAULT '',
        CONSTRAINT traffic_changes_generation UNIQUE (model_id, generation),
        CONSTRAINT traffic_changes_request UNIQUE (request_id)
    )
    """,
    """
    COMMENT ON TABLE traffic_changes IS 'Every change of a traffic rule: who, when, why, from what to what.'
    """,
    "CREATE INDEX traffic_changes_newest ON traffic_changes (model_id, id DESC)",
    """
    CREATE TABLE serving_models (
        model_id text PRIMARY KEY,
        updated_at timestamptz NOT NULL DEFAULT now(),
        served bytea NOT NULL
    )
    """,
    """
    COMMENT ON TABLE serving_models IS 'The serving table that was published last, one infermesh.common.v1.ServedModel a
 row: a router that starts while the deployer is away goes on with it.'
    """,
    # Each value stands for itself and the 999 after it, so that revisions can be given out while the database is away.
    "CREATE SEQUENCE table_revision MINVALUE 1000 INCREMENT BY 1000",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops them, with all that they hold."""
    for table in ("traffic_rules", "traffic_changes", "serving_models"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP SEQUENCE table_revision")
