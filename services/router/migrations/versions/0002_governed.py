"""What a rule holds beside shares: who owns which place, shadows, the rollout that decides the shares at the moment,
whether predictions are logged in full, and the strategy "weighted". And how versions were deployed."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the columns. Rules from before have the places that the order of their versions gave them."""
    op.execute("""
        ALTER TABLE traffic_rules
            ADD COLUMN places jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN shadows jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN governing_rule text NOT NULL DEFAULT '',
            ADD COLUMN log_labels boolean NOT NULL DEFAULT false
    """)
    op.execute("""
        ALTER TABLE traffic_rules
            DROP CONSTRAINT traffic_rules_routing_strategy_check,
            ADD CONSTRAINT traffic_rules_routing_strategy_check
                CHECK (routing_strategy IN ('round_robin', 'sticky', 'random', 'weighted'))
    """)
    op.execute("""
        CREATE TABLE deployed_versions (
            model_id text NOT NULL,
            version_id text NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            deployment_id text NOT NULL,
            spec bytea NOT NULL,
            PRIMARY KEY (model_id, version_id)
        )
    """)
    op.execute("""
        COMMENT ON TABLE deployed_versions IS 'How each version was deployed when it was ready last, as an
 infermesh.deployer.v1.CreateDeploymentRequest: a roll-back has it deployed again in this way.'
    """)
    op.execute("""
        COMMENT ON COLUMN traffic_rules.places IS 'Who owns which of the places 0 to 99 that sticky keys have: runs of a
 version and its number of places, in ascending order'
    """)


def downgrade() -> None:
    """Drops them, and the rows that the schema before does not know."""
    op.execute("DROP TABLE deployed_versions")
    op.execute("DELETE FROM traffic_rules WHERE rule_name <> 'split'")
    op.execute("UPDATE traffic_rules SET routing_strategy = 'random' WHERE routing_strategy = 'weighted'")
    op.execute("""
        ALTER TABLE traffic_rules
            DROP CONSTRAINT traffic_rules_routing_strategy_check,
            ADD CONSTRAINT traffic_rules_routing_strategy_check
                CHECK (routing_strategy IN ('round_robin', 'sticky', 'random'))
    """)
    op.execute("""
        ALTER TABLE traffic_rules
            DROP COLUMN places, DROP COLUMN shadows, DROP COLUMN governing_rule, DROP COLUMN log_labels
    """)
