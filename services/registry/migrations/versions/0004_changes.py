"""The audit log: every change, in the order of the commits, never changed itself."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    """
    CREATE TABLE changes (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        resource_type text NOT NULL,
        resource_name text COLLATE "C" NOT NULL,
        model_name text COLLATE "C" NOT NULL DEFAULT '',
        action text NOT NULL,
        actor text NOT NULL DEFAULT '',
        team text NOT NULL DEFAULT '',
        request_id text NOT NULL DEFAULT '',
        reason text NOT NULL DEFAULT '',
        before jsonb,
        after jsonb
    )
    """,
    "CREATE INDEX changes_resource ON changes (resource_type, resource_name, id DESC)",
    "CREATE INDEX changes_model ON changes (model_name, id) WHERE model_name <> ''",
    "CREATE INDEX changes_team ON changes (team, id DESC)",
    "CREATE INDEX changes_actor ON changes (actor, id DESC)",
    "CREATE INDEX changes_time ON changes (changed_at)",
    """
    CREATE FUNCTION changes_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is only ever added to';
    END $$
    """,
    """
    CREATE TRIGGER changes_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON changes
        FOR EACH STATEMENT EXECUTE FUNCTION changes_stay()
    """,
    """
    CREATE FUNCTION changes_told() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('registry_changes', NEW.id::text);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER changes_told AFTER INSERT ON changes FOR EACH ROW EXECUTE FUNCTION changes_told()
    """,
)


def upgrade() -> None:
    """Makes the table, the bar against rewriting it, and the word that goes out with each change."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops it, with all that it holds."""
    op.execute("DROP TABLE changes")
    op.execute("DROP FUNCTION changes_stay(), changes_told()")
