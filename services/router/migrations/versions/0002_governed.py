"""What a rule holds beside shares: who owns which place, shadows, the rollout that decides the shares at the moment,
whether predictions are logged in full, and the strategy "weighted"."""

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
        COMMENT ON COLUMN traffic_rules.places IS 'Who owns which of the places 0 to 99 that sticky keys have: runs of a
 version and its number of places, in ascending order'
    """)


def downgrade() -> None:
    """Drops them, and the rows that the schema before does not know."""
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
