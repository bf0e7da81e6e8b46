"""What the registry said last of who may call: a router that starts while it is dead goes on refusing revoked keys."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    """
    CREATE TABLE access (
        part text PRIMARY KEY CHECK (part IN ('callers', 'models')),
        stated bytea NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    COMMENT ON TABLE access IS 'What the registry said last: of keys and teams, and of whose models are. It is replaced
 with each word of the registry, and read only where a router starts that does not reach it.'
    """,
)


def upgrade() -> None:
    """Makes the table."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops it; the registry gives it again."""
    op.execute("DROP TABLE access")
