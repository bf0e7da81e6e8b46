"""The registry's tables: teams, models, their versions, and aliases with their moves."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE teams (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        name text COLLATE "C" NOT NULL CONSTRAINT teams_name UNIQUE,
        namespace text COLLATE "C" NOT NULL CONSTRAINT teams_namespace UNIQUE,
        resource_quota jsonb NOT NULL DEFAULT '{}'
    )
    """,
    """
    CREATE TABLE models (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        name text COLLATE "C" NOT NULL CONSTRAINT models_name UNIQUE,
        description text NOT NULL DEFAULT '',
        framework text NOT NULL,
        created_by text NOT NULL DEFAULT '',
        team_id uuid REFERENCES teams,
        tags text[] NOT NULL DEFAULT '{}',
        model_card text NOT NULL DEFAULT '',
        revision integer NOT NULL DEFAULT 1
    )
    """,
    "CREATE INDEX models_tags ON models USING gin (tags)",
    """
    CREATE TABLE model_versions (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        model_id uuid NOT NULL REFERENCES models,
        version text COLLATE "C" NOT NULL,
        precedence text COLLATE "C" NOT NULL,
        artifact_uri text NOT NULL,
        artifact_digest text COLLATE "C" NOT NULL CHECK (artifact_digest ~ '^[0-9a-f]{64}$'),
        artifact_kind text NOT NULL CHECK (artifact_kind IN ('file', 'directory', 'tar.gz')),
        artifact_filename text NOT NULL DEFAULT '',
        model_size_bytes bigint NOT NULL,
        framework_version text NOT NULL DEFAULT '',
        input_schema jsonb NOT NULL,
        output_schema jsonb NOT NULL,
        tensor_schema jsonb NOT NULL,
        schema_source text NOT NULL CHECK (schema_source IN ('artifact', 'declared')),
        prediction_mapping jsonb NOT NULL,
        training_metrics jsonb NOT NULL DEFAULT '{}',
        training_metadata jsonb NOT NULL DEFAULT '{}',
        tags text[] NOT NULL DEFAULT '{}',
        lineage jsonb NOT NULL DEFAULT '{}',
        status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'active', 'deprecated', 'archived')),
        model_card text NOT NULL DEFAULT '',
        created_by text NOT NULL DEFAULT '',
        request_id text,
        revision integer NOT NULL DEFAULT 1,
        CONSTRAINT model_versions_version UNIQUE (model_id, version),
        CONSTRAINT model_versions_request UNIQUE (request_id)
    )
    """,
    "CREATE INDEX model_versions_precedence ON model_versions (model_id, precedence DESC)",
    "CREATE INDEX model_versions_artifact ON model_versions (artifact_digest)",
    "CREATE INDEX model_versions_tags ON model_versions USING gin (tags)",
    """
    CREATE TABLE model_aliases (
        model_id uuid NOT NULL REFERENCES models,
        alias text COLLATE "C" NOT NULL,
        version_id uuid NOT NULL REFERENCES model_versions,
        updated_by text NOT NULL DEFAULT '',
        updated_at timestamptz NOT NULL DEFAULT now(),
        revision bigint NOT NULL,
        PRIMARY KEY (model_id, alias)
    )
    """,
    "CREATE INDEX model_aliases_version ON model_aliases (version_id)",
    """
    CREATE TABLE alias_moves (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        model_id uuid NOT NULL REFERENCES models,
        alias text COLLATE "C" NOT NULL,
        from_version text NOT NULL,
        to_version text NOT NULL,
        reason text NOT NULL DEFAULT '',
        moved_by text NOT NULL DEFAULT '',
        moved_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX alias_moves_alias ON alias_moves (model_id, alias, id DESC)",
    """
    COMMENT ON COLUMN model_versions.precedence IS 'Sorts byte by byte as semantic versions do.'
    """,
)
_TABLES = ("alias_moves", "model_aliases", "model_versions", "models", "teams")


def upgrade() -> None:
    """Makes the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drops them, with all that they hold."""
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
