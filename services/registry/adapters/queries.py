"""The SELECTs that give whole models and versions. Callers append conditions and an order.

`:viewer` is the team whose eyes look; the empty one sees all, and models without a team are everybody's.
"""
# ruff: noqa: S608 - made of this module's own text

SEEN = "(:viewer = '' OR m.team_id IS NULL OR t.name = :viewer)"
"""Whether `:viewer` sees the model `m` of the team `t`; the one place that says so."""

VERSIONS = f"""
    SELECT v.*, m.name AS model_name, m.framework AS framework, t.name AS team,
        ARRAY(SELECT a.alias FROM model_aliases a WHERE a.version_id = v.id ORDER BY a.alias) AS aliases
    FROM model_versions v JOIN models m ON m.id = v.model_id LEFT JOIN teams t ON t.id = m.team_id
    WHERE {SEEN}
"""
MODELS = f"""
    SELECT m.*, t.name AS team,
        (SELECT v.version FROM model_versions v WHERE v.model_id = m.id ORDER BY v.precedence DESC LIMIT 1)
            AS latest_version,
        (SELECT count(*) FROM model_versions v WHERE v.model_id = m.id) AS version_count,
        (SELECT coalesce(jsonb_object_agg(a.alias, v.version), '{{}}')
            FROM model_aliases a JOIN model_versions v ON v.id = a.version_id WHERE a.model_id = m.id) AS aliases
    FROM models m LEFT JOIN teams t ON t.id = m.team_id
    WHERE {SEEN}
"""
ALIASES = f"""
    SELECT a.model_id, m.name AS model_name, a.alias, v.version, a.updated_by, a.updated_at, a.revision
    FROM model_aliases a JOIN models m ON m.id = a.model_id JOIN model_versions v ON v.id = a.version_id
        LEFT JOIN teams t ON t.id = m.team_id
    WHERE {SEEN}
"""
