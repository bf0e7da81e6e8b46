"""What searches read, lineage as a graph, and what was removed: all derived from the rows by the database itself.

Triggers fill these tables, so nobody who writes a model or version can forget them, and they change in the same
transaction.
"""

from alembic import op
from sqlalchemy import text

from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

revision = "0008"
down_revision = "0007"

_WORDS = (
    ("model_words", "model_words_trigrams"),
    ("version_finding", "version_finding_trigrams"),
)
_TABLES = (
    """
    CREATE TABLE version_finding (
        version_id uuid PRIMARY KEY REFERENCES model_versions ON DELETE CASCADE,
        model_id uuid NOT NULL,
        model_name text COLLATE "C" NOT NULL,
        framework text NOT NULL,
        status text NOT NULL,
        precedence text COLLATE "C" NOT NULL,
        is_highest boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        tags text[] NOT NULL,
        metrics jsonb NOT NULL,
        words text NOT NULL
    )
    """,
    "COMMENT ON TABLE version_finding IS 'What searches compare and order by: narrow, so that all of it is soon read.'",
    "CREATE INDEX version_finding_name ON version_finding (model_name, precedence DESC)",
    "CREATE INDEX version_finding_model ON version_finding (model_id)",
    "CREATE INDEX version_finding_created ON version_finding (created_at)",
    "CREATE INDEX version_finding_updated ON version_finding (updated_at)",
    "CREATE INDEX version_finding_tags ON version_finding USING gin (tags) WITH (fastupdate = off)",
    """
    CREATE TABLE version_metrics (
        version_id uuid NOT NULL REFERENCES model_versions ON DELETE CASCADE,
        name text COLLATE "C" NOT NULL,
        value double precision NOT NULL,
        PRIMARY KEY (version_id, name)
    )
    """,
    # A name may be longer than an index entry; its digest is not.
    "CREATE INDEX version_metrics_value ON version_metrics (md5(name), value)",
    "CREATE TABLE model_words (model_id uuid PRIMARY KEY REFERENCES models ON DELETE CASCADE, words text NOT NULL)",
    "CREATE INDEX model_aliases_alias ON model_aliases (alias)",
    """
    CREATE TABLE lineage_edges (
        to_key bytea NOT NULL,
        from_key bytea NOT NULL,
        relation text NOT NULL,
        from_node text NOT NULL,
        model_name text COLLATE "C" NOT NULL,
        version text COLLATE "C" NOT NULL,
        parent_model text COLLATE "C",
        parent_version text COLLATE "C",
        PRIMARY KEY (to_key, from_key)
    )
    """,
    """
    COMMENT ON TABLE lineage_edges IS
        'What versions were made from, also those that are gone. Keys are SHA-256 of node ids, which may be long.'
    """,
    "CREATE INDEX lineage_edges_from ON lineage_edges (from_key)",
    """
    CREATE TABLE removed_models (
        id uuid PRIMARY KEY,
        name text COLLATE "C" NOT NULL,
        team_id uuid,
        removal uuid NOT NULL,
        state text NOT NULL CHECK (state IN ('hidden', 'removed', 'gone')),
        removed_at timestamptz NOT NULL DEFAULT now(),
        whole jsonb,
        noted jsonb,
        aliases jsonb NOT NULL DEFAULT '[]',
        shares jsonb NOT NULL DEFAULT '[]'
    )
    """,
    "CREATE INDEX removed_models_name ON removed_models (name)",
    """
    CREATE TABLE removed_versions (
        id uuid PRIMARY KEY,
        removal uuid NOT NULL,
        state text NOT NULL CHECK (state IN ('hidden', 'removed', 'gone')),
        removed_at timestamptz NOT NULL DEFAULT now(),
        model_id uuid NOT NULL,
        model_name text COLLATE "C" NOT NULL,
        version text COLLATE "C" NOT NULL,
        team_id uuid,
        artifact_digest text COLLATE "C" NOT NULL,
        whole jsonb,
        noted jsonb,
        signature jsonb,
        CONSTRAINT removed_versions_version UNIQUE (model_name, version)
    )
    """,
    """
    COMMENT ON TABLE removed_versions IS
        'Numbers that are never given out again. Until a version is gone for good, whole holds what puts it back.'
    """,
    "CREATE INDEX removed_models_state ON removed_models (removed_at) WHERE state <> 'gone'",
    "CREATE INDEX removed_versions_removal ON removed_versions (removal)",
    "CREATE INDEX removed_versions_state ON removed_versions (removed_at) WHERE state <> 'gone'",
    "CREATE INDEX removed_versions_artifact ON removed_versions (artifact_digest) WHERE state <> 'gone'",
    """
    CREATE VIEW known_versions AS
    SELECT m.id, m.name, m.team_id, v.version FROM model_versions v JOIN models m ON m.id = v.model_id
    UNION ALL
    SELECT coalesce(now.id, r.model_id), r.model_name,
        CASE WHEN now.id IS NULL THEN r.team_id ELSE now.team_id END, r.version
    FROM removed_versions r LEFT JOIN models now ON now.name = r.model_name
    """,
    """
    CREATE VIEW known_models AS
    SELECT m.id, m.name, m.team_id FROM models m
    UNION ALL
    SELECT r.id, r.name, r.team_id FROM removed_models r
    WHERE NOT EXISTS (SELECT FROM models now WHERE now.name = r.name)
    """,
    "COMMENT ON VIEW known_versions IS 'Versions that are registered, or were: what a lineage can show.'",
)
_FUNCTIONS = (
    """
    CREATE FUNCTION model_words_of(m models) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT lower(concat_ws(' ', m.name, m.description, array_to_string(m.tags, ' '), m.model_card))
    $$
    """,
    """
    CREATE FUNCTION version_words_of(v model_versions) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT lower(concat_ws(' ', array_to_string(v.tags, ' '), v.model_card))
    $$
    """,
    """
    CREATE FUNCTION node_key(node text) RETURNS bytea LANGUAGE sql STABLE AS $$
        SELECT sha256(convert_to(node, 'UTF8'))
    $$
    """,
    """
    CREATE FUNCTION mark_highest(of_model uuid) RETURNS void LANGUAGE sql AS $$
        UPDATE registry.version_finding f SET is_highest = NOT f.is_highest
        WHERE f.model_id = of_model AND f.is_highest <> (f.precedence = (
            SELECT max(o.precedence) FROM registry.version_finding o WHERE o.model_id = of_model))
    $$
    """,
    """
    CREATE FUNCTION note_lineage(v model_versions, named text) RETURNS void LANGUAGE sql AS $$
        INSERT INTO registry.lineage_edges
            (to_key, from_key, relation, from_node, model_name, version, parent_model, parent_version)
        SELECT registry.node_key('version:' || named || '@' || v.version), registry.node_key(made.node), made.relation,
            made.node, named, v.version, made.model, made.number
        FROM (
            SELECT 'parent' AS relation, 'version:' || p.model || '@' || p.number AS node, p.model, p.number
            FROM (
                SELECT CASE WHEN strpos(given, '@') > 0 THEN split_part(given, '@', 1) ELSE named END AS model,
                    CASE WHEN strpos(given, '@') > 0 THEN split_part(given, '@', 2) ELSE given END AS number
                FROM (SELECT v.lineage ->> 'parent_version' AS given) g WHERE given <> ''
            ) p
            UNION ALL
            SELECT w.relation, w.kind || ':' || (v.lineage ->> w.field), NULL, NULL
            FROM (VALUES ('trained_by_run', 'run', 'training_run'), ('trained_on', 'dataset', 'dataset'),
                ('built_from', 'commit', 'code_commit'), ('trained_by', 'person', 'trained_by'))
                AS w (relation, kind, field)
            WHERE v.lineage ->> w.field <> ''
        ) made
        ON CONFLICT DO NOTHING
    $$
    """,
    """
    CREATE FUNCTION find_version(v model_versions) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE m registry.models;
    BEGIN
        SELECT * INTO m FROM registry.models WHERE id = v.model_id;
        INSERT INTO registry.version_finding
            (version_id, model_id, model_name, framework, status, precedence, created_at, updated_at, tags, metrics,
            words)
        VALUES (v.id, m.id, m.name, m.framework, v.status, v.precedence, v.created_at, v.updated_at, m.tags || v.tags,
            v.training_metrics, registry.version_words_of(v));
        INSERT INTO registry.version_metrics (version_id, name, value)
        SELECT v.id, key, value::double precision FROM jsonb_each_text(v.training_metrics);
        PERFORM registry.note_lineage(v, m.name);
    END $$
    """,
    """
    CREATE FUNCTION version_added() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM registry.find_version(NEW), registry.mark_highest(NEW.model_id);
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION version_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE registry.version_finding SET status = NEW.status, updated_at = NEW.updated_at,
            words = registry.version_words_of(NEW)
        WHERE version_id = NEW.id;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION version_gone() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM registry.mark_highest(OLD.model_id);
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION model_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO registry.model_words VALUES (NEW.id, registry.model_words_of(NEW))
        ON CONFLICT (model_id) DO UPDATE SET words = EXCLUDED.words;
        UPDATE registry.version_finding f SET tags = NEW.tags || v.tags
        FROM registry.model_versions v
        WHERE f.model_id = NEW.id AND v.id = f.version_id AND f.tags <> NEW.tags || v.tags;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER version_added AFTER INSERT ON model_versions FOR EACH ROW EXECUTE FUNCTION version_added()",
    """
    CREATE TRIGGER version_changed AFTER UPDATE OF status, model_card, updated_at ON model_versions
        FOR EACH ROW EXECUTE FUNCTION version_changed()
    """,
    "CREATE TRIGGER version_gone AFTER DELETE ON model_versions FOR EACH ROW EXECUTE FUNCTION version_gone()",
    "CREATE TRIGGER model_added AFTER INSERT ON models FOR EACH ROW EXECUTE FUNCTION model_changed()",
    """
    CREATE TRIGGER model_changed AFTER UPDATE OF description, tags, model_card ON models
        FOR EACH ROW EXECUTE FUNCTION model_changed()
    """,
)
_BACKFILL = (
    "INSERT INTO model_words SELECT m.id, model_words_of(m) FROM models m",
    "SELECT find_version(v) FROM model_versions v",
    "SELECT mark_highest(m.id) FROM models m",
)
_EXTENSION = text("""
    SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'
""")


# Moves are history, and stay where their model goes. Last, because nobody can read models from here to the commit.
_KEEP_MOVES = "ALTER TABLE alias_moves DROP CONSTRAINT alias_moves_model_id_fkey"


def upgrade() -> None:
    """Makes the tables and what fills them, and fills them with what is there: half a minute for 50,000 versions, in
    which models can be read and not changed."""
    for statement in (*_TABLES, *_FUNCTIONS, *_BACKFILL):
        op.execute(statement)
    _index_words()
    op.execute(_KEEP_MOVES)


def downgrade() -> None:
    """Drops them. What was removed and not yet gone is gone then."""
    for trigger, table in (
        ("version_added", "model_versions"),
        ("version_changed", "model_versions"),
        ("version_gone", "model_versions"),
        ("model_added", "models"),
        ("model_changed", "models"),
    ):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    op.execute("DROP VIEW known_versions, known_models")
    for function in ("version_added()", "version_changed()", "version_gone()", "model_changed()"):
        op.execute(f"DROP FUNCTION {function}")
    op.execute("DROP FUNCTION find_version(model_versions), note_lineage(model_versions, text), mark_highest(uuid)")
    op.execute("DROP FUNCTION node_key(text), version_words_of(model_versions), model_words_of(models)")
    for table in (
        "removed_versions",
        "removed_models",
        "lineage_edges",
        "model_words",
        "version_metrics",
        "version_finding",
    ):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP INDEX model_aliases_alias")
    op.execute("DELETE FROM alias_moves h WHERE NOT EXISTS (SELECT FROM models m WHERE m.id = h.model_id)")
    op.execute(
        "ALTER TABLE alias_moves ADD CONSTRAINT alias_moves_model_id_fkey FOREIGN KEY (model_id) REFERENCES models"
    )


def _index_words() -> None:
    """Trigrams make searches for words quick; without the right to have them, searches are right and slower."""
    connection = op.get_bind()
    # Trusted since PostgreSQL 13: whoever may create in the database may make it. A savepoint, because who may not
    # would otherwise have lost the whole migration.
    op.execute("SAVEPOINT trigrams")
    try:
        if connection.execute(_EXTENSION).scalar_one_or_none() is None:
            op.execute("CREATE EXTENSION pg_trgm")
    except Exception as refused:
        op.execute("ROLLBACK TO SAVEPOINT trigrams")
        log.warning(
            "searches for words read every row: the extension pg_trgm cannot be made here",
            problem=str(refused).splitlines()[0],
            as_superuser="CREATE EXTENSION pg_trgm",
            then="; ".join(_indices("public")),
        )
        return
    for statement in _indices(str(connection.execute(_EXTENSION).scalar_one())):
        op.execute(statement)
    op.execute("RELEASE SAVEPOINT trigrams")


def _indices(schema: str) -> list[str]:
    return [
        f'CREATE INDEX {index} ON registry.{table} USING gin (words "{schema}".gin_trgm_ops) WITH (fastupdate = off)'
        for table, index in _WORDS
    ]
