"""How far a job was when, for its pace of late; kept with the progress itself, whoever records that."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    "ALTER TABLE batch_jobs ADD COLUMN pace jsonb NOT NULL DEFAULT '[]'",
    # Marks are {"running_s", "rows"}; 64 of them are kept (services/batch/domain/pace.py). The first is of the moment
    # when the input was cut, before which there was nothing to predict; a retry begins anew, and so does a step that is
    # taken back.
    """
    CREATE FUNCTION batch_mark() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        mark jsonb := jsonb_build_array(jsonb_build_object(
            'running_s',
            NEW.running_s + GREATEST(0, COALESCE(extract(epoch FROM clock_timestamp() - NEW.counted_at), 0)),
            'rows', NEW.processed_records));
    BEGIN
        IF NEW.total_records = 0 OR NEW.running_s < OLD.running_s THEN
            NEW.pace := '[]';
        ELSIF NEW.total_records <> OLD.total_records OR NEW.processed_records < OLD.processed_records THEN
            NEW.pace := mark;
        ELSE
            NEW.pace := NEW.pace || mark;
            IF jsonb_array_length(NEW.pace) > 64 THEN
                NEW.pace := NEW.pace - 0;
            END IF;
        END IF;
        RETURN NEW;
    END
    $$
    """,
    """
    CREATE TRIGGER batch_jobs_mark BEFORE UPDATE ON batch_jobs FOR EACH ROW
    WHEN (OLD.processed_records <> NEW.processed_records OR OLD.total_records <> NEW.total_records
          OR NEW.running_s < OLD.running_s)
    EXECUTE FUNCTION batch_mark()
    """,
)


def upgrade() -> None:
    """Makes the column, and what fills it."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops both."""
    op.execute("DROP TRIGGER batch_jobs_mark ON batch_jobs")
    op.execute("DROP FUNCTION batch_mark()")
    op.execute("ALTER TABLE batch_jobs DROP COLUMN pace")
