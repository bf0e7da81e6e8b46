"""Members and keys of teams, what teams may use, and who shares models with whom."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    """
    ALTER TABLE teams
        ADD COLUMN description text NOT NULL DEFAULT '',
        ADD COLUMN rate_limit jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN allow_unsafe_artifacts boolean NOT NULL DEFAULT false,
        ADD COLUMN require_signature boolean NOT NULL DEFAULT false,
        ADD COLUMN trusted_signers text[] NOT NULL DEFAULT '{}',
        ADD COLUMN revision integer NOT NULL DEFAULT 1,
        ADD COLUMN request_id text CONSTRAINT teams_request UNIQUE,
        ADD COLUMN request_digest text
    """,
    """
    CREATE TABLE team_members (
        team_id uuid NOT NULL REFERENCES teams ON DELETE CASCADE,
        user_name text COLLATE "C" NOT NULL,
        role text NOT NULL CHECK (role IN ('viewer', 'deployer', 'admin')),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (team_id, user_name)
    )
    """,
    "CREATE INDEX team_members_user ON team_members (user_name)",
    """
    CREATE TABLE signing_keys (
        kid text COLLATE "C" PRIMARY KEY,
        x text NOT NULL,
        y text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        in_use_at timestamptz NOT NULL,
        distrusted_at timestamptz
    )
    """,
    """
    CREATE TABLE api_keys (
        number bigint GENERATED ALWAYS AS IDENTITY,
        key_id text COLLATE "C" PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('key', 'token', 'operator')),
        team_id uuid REFERENCES teams ON DELETE SET NULL,
        team text COLLATE "C" NOT NULL,
        name text NOT NULL,
        role text NOT NULL CHECK (role IN ('viewer', 'deployer', 'admin', 'platform-admin')),
        scopes text[] NOT NULL DEFAULT '{}',
        models text[] NOT NULL DEFAULT '{}',
        rate_limit jsonb,
        user_name text COLLATE "C" NOT NULL DEFAULT '',
        expires_at timestamptz,
        last_used_at timestamptz,
        revoked_at timestamptz,
        created_by text NOT NULL DEFAULT '',
        created_at timestamptz NOT NULL,
        signed_by text COLLATE "C" NOT NULL REFERENCES signing_keys,
        request_id text,
        CONSTRAINT api_keys_request UNIQUE (team, request_id),
        CHECK ((kind = 'operator') = (role = 'platform-admin'))
    )
    """,
    "CREATE INDEX api_keys_team ON api_keys (team_id, number DESC)",
    "CREATE INDEX api_keys_user ON api_keys (team_id, user_name) WHERE kind = 'token'",
    "CREATE INDEX api_keys_revoked ON api_keys (key_id) WHERE revoked_at IS NOT NULL",
    "CREATE INDEX api_keys_limited ON api_keys (key_id) WHERE rate_limit IS NOT NULL AND revoked_at IS NULL",
    "CREATE INDEX api_keys_signed_by ON api_keys (signed_by)",
    """
    CREATE TABLE model_shares (
        model_id uuid NOT NULL REFERENCES models ON DELETE CASCADE,
        team_id uuid NOT NULL REFERENCES teams ON DELETE CASCADE,
        created_at timestamptz NOT NULL DEFAULT now(),
        created_by text NOT NULL DEFAULT '',
        PRIMARY KEY (model_id, team_id)
    )
    """,
    "CREATE INDEX model_shares_team ON model_shares (team_id)",
    "CREATE INDEX models_team ON models (team_id)",
    # Operators set the column by hand when a private key has leaked: it is audited and told like any other change.
    """
    CREATE FUNCTION signing_keys_distrusted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext('registry.changes'));
        INSERT INTO changes (resource_type, resource_name, action, actor)
        VALUES ('api_key', 'signing-key/' || NEW.kid, 'revoked', session_user);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER signing_keys_distrusted AFTER UPDATE OF distrusted_at ON signing_keys
        FOR EACH ROW EXECUTE FUNCTION signing_keys_distrusted()
    """,
    "COMMENT ON TABLE api_keys IS 'What is known of keys; the keys themselves are kept nowhere.'",
    "COMMENT ON COLUMN signing_keys.distrusted_at IS 'Once set, no gateway takes a key that it signed any more.'",
)


def upgrade() -> None:
    """Makes it so."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Back to how it was, without what it held."""
    for table in ("model_shares", "api_keys", "signing_keys", "team_members"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION signing_keys_distrusted()")
    op.execute("DROP INDEX models_team")
    op.execute("""
        ALTER TABLE teams DROP COLUMN description, DROP COLUMN rate_limit, DROP COLUMN allow_unsafe_artifacts,
            DROP COLUMN require_signature, DROP COLUMN trusted_signers, DROP COLUMN revision,
            DROP COLUMN request_id, DROP COLUMN request_digest
    """)
