"""Rollouts: canaries and A/B tests, who acts on them, and the events that the monitor has not taken yet."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    """
    CREATE TABLE rollouts (
        id uuid PRIMARY KEY,
        number bigint GENERATED ALWAYS AS IDENTITY,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        ended_at timestamptz,
        model_id text NOT NULL,
        name text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('canary', 'ab_test')),
        status text NOT NULL,
        document jsonb NOT NULL,
        results jsonb NOT NULL DEFAULT '{}',
        generation integer NOT NULL DEFAULT 1,
        created_by text NOT NULL DEFAULT '',
        request_id text,
        request_digest text NOT NULL DEFAULT '',
        CONSTRAINT rollouts_name UNIQUE (model_id, name),
        CONSTRAINT rollouts_request UNIQUE (request_id)
    )
    """,
    """
    COMMENT ON TABLE rollouts IS 'Canaries and A/B tests, also those that have ended. Each has a row of its own name in
 traffic_rules, written in the same transaction.'
    """,
    "CREATE UNIQUE INDEX rollouts_running ON rollouts (model_id) WHERE status IN ('running', 'paused')",
    "CREATE INDEX rollouts_newest ON rollouts (model_id, number DESC)",
    """
    CREATE TABLE leases (
        name text PRIMARY KEY,
        holder text NOT NULL,
        token bigint NOT NULL,
        expires_at timestamptz NOT NULL
    )
    """,
    """
    COMMENT ON TABLE leases IS 'Which router acts, until when. The token grows with every new holder; what a holder
 writes is refused once it has grown.'
    """,
    """
    CREATE TABLE rollout_events (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_id uuid NOT NULL UNIQUE,
        event jsonb NOT NULL,
        refused text
    )
    """,
    """
    COMMENT ON TABLE rollout_events IS 'Events of rollouts that the monitor has not taken yet, in their order, and with
 why those that it refused.'
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops them, with all that they hold."""
    for table in ("rollouts", "leases", "rollout_events"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DELETE FROM traffic_rules WHERE rule_type IN ('canary', 'ab_test')")
    # Nobody would ever end what governs: the shares stay as they are, and may be changed by hand.
    op.execute("""
        UPDATE traffic_rules SET governing_rule = '', log_labels = false
        WHERE rule_name = 'split' AND governing_rule <> ''
    """)
