"""Outcomes belong to the team that reported them."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    "ALTER TABLE outcomes ADD COLUMN team text NOT NULL DEFAULT ''",
    "ALTER TABLE outcomes ADD COLUMN key_models text[]",
    "ALTER TABLE outcomes DROP CONSTRAINT outcomes_pkey",
    "ALTER TABLE outcomes ADD PRIMARY KEY (request_id, instance_index, team)",
    """
    COMMENT ON COLUMN outcomes.team IS 'Who reported it; it is joined to predictions of models that this team sees, and
 to no other. Empty: no team did. key_models: the models that the key was limited to, NULL for none.'
    """,
)


def upgrade() -> None:
    """Each team replaces its own outcomes alone."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """One outcome a prediction, whoever reported it: the newest."""
    op.execute("""
        DELETE FROM outcomes AS older USING outcomes AS newer
        WHERE older.request_id = newer.request_id AND older.instance_index = newer.instance_index
          AND (older.reported_at, older.team) < (newer.reported_at, newer.team)
    """)
    op.execute("ALTER TABLE outcomes DROP CONSTRAINT outcomes_pkey")
    op.execute("ALTER TABLE outcomes DROP COLUMN team, DROP COLUMN key_models")
    op.execute("ALTER TABLE outcomes ADD PRIMARY KEY (request_id, instance_index)")
