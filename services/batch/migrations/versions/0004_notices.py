"""Whom a job told of what: an outbox that is written with the status itself, whoever writes that."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    """
    CREATE TABLE batch_notices (
        notice_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        job_id text NOT NULL,
        attempt integer NOT NULL,
        status text NOT NULL,
        means text NOT NULL,
        address text NOT NULL,
        job jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        tries integer NOT NULL DEFAULT 0,
        outcome text CHECK (outcome IN ('sent', 'given_up')),
        problem text NOT NULL DEFAULT '',
        ended_at timestamptz,
        UNIQUE (job_id, attempt, status, means, address)
    )
    """,
    "COMMENT ON COLUMN batch_notices.job IS 'The row of the job as it was when its status became this.'",
    "CREATE INDEX batch_notices_due ON batch_notices (due_at) WHERE outcome IS NULL",
    "CREATE INDEX batch_notices_ended ON batch_notices (ended_at) WHERE outcome IS NOT NULL",
    """
    CREATE FUNCTION batch_tell() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO batch_notices (job_id, attempt, status, means, address, job)
        SELECT NEW.job_id, NEW.attempt, NEW.status, wished.means, wished.address, to_jsonb(NEW) - 'plan'
        FROM (
            SELECT 'email', NEW.spec ->> 'notify_on_completion'
            WHERE NEW.status <> 'running' AND NEW.spec ->> 'notify_on_completion' <> ''
            UNION
            SELECT notice ->> 'means', notice ->> 'address'
            FROM jsonb_array_elements(COALESCE(NEW.spec -> 'notices', '[]')) AS notice
            WHERE jsonb_exists(notice -> 'statuses', NEW.status)
        ) AS wished (means, address)
        -- A job that goes on after its process died or after a pause runs again, and nobody wants to hear of it.
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER batch_jobs_tell AFTER UPDATE OF status ON batch_jobs FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status <> 'pending') EXECUTE FUNCTION batch_tell()
    """,
)


def upgrade() -> None:
    """Makes the outbox, and what fills it."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops both; what waits is not sent."""
    op.execute("DROP TRIGGER batch_jobs_tell ON batch_jobs")
    op.execute("DROP FUNCTION batch_tell()")
    op.execute("DROP TABLE batch_notices")
