"""Uploads that go on after a break, and how artifacts are stored."""

from alembic import op

revision = "0006"
down_revision = "0005"

_STATEMENTS = (
    """
    CREATE TABLE artifacts (
        digest text COLLATE "C" PRIMARY KEY CHECK (digest ~ '^[0-9a-f]{64}$'),
        kind text NOT NULL CHECK (kind IN ('file', 'directory', 'tar.gz')),
        filename text NOT NULL DEFAULT '',
        size_bytes bigint NOT NULL,
        stored_bytes bigint NOT NULL,
        object_name text COLLATE "C" NOT NULL CONSTRAINT artifacts_object UNIQUE,
        created_at timestamptz NOT NULL DEFAULT now(),
        wanted_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX artifacts_wanted ON artifacts (wanted_at)",
    "COMMENT ON COLUMN artifacts.object_name IS 'Its object in the store, below the store''s own place.'",
    "COMMENT ON COLUMN artifacts.wanted_at IS 'When it was last sent, fetched, or named for a registration.'",
    """
    CREATE TABLE artifact_owners (
        digest text COLLATE "C" NOT NULL REFERENCES artifacts ON DELETE CASCADE,
        team text COLLATE "C" NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (digest, team)
    )
    """,
    "COMMENT ON TABLE artifact_owners IS 'The teams that sent an artifact: they may read it without a version of it.'",
    """
    CREATE TABLE uploads (
        upload_id text COLLATE "C" PRIMARY KEY,
        team text COLLATE "C" NOT NULL DEFAULT '',
        actor text COLLATE "C" NOT NULL DEFAULT '',
        request_id text COLLATE "C",
        filename text NOT NULL DEFAULT '',
        digest text COLLATE "C" NOT NULL DEFAULT '',
        size_bytes bigint NOT NULL DEFAULT 0,
        offset_bytes bigint NOT NULL DEFAULT 0,
        artifact_digest text COLLATE "C" NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        CONSTRAINT uploads_request UNIQUE (team, actor, request_id)
    )
    """,
    "CREATE INDEX uploads_expiry ON uploads (expires_at)",
    "COMMENT ON COLUMN uploads.artifact_digest IS 'What has come of it, once it is complete.'",
    """
    CREATE TABLE upload_parts (
        upload_id text COLLATE "C" NOT NULL REFERENCES uploads ON DELETE CASCADE,
        offset_bytes bigint NOT NULL,
        size_bytes bigint NOT NULL,
        object_name text COLLATE "C" NOT NULL,
        PRIMARY KEY (upload_id, offset_bytes)
    )
    """,
    "CREATE INDEX upload_parts_object ON upload_parts (object_name)",
)
_TABLES = ("upload_parts", "uploads", "artifact_owners", "artifacts")


def upgrade() -> None:
    """Makes the tables. Artifacts that are in the store already are recorded at the registry's start."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops them. Artifacts in frames cannot be read by what comes before."""
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
