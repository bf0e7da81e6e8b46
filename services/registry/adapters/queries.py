"""The SELECTs that give whole models and versions. Callers append conditions and an order.

`:viewer` is whose eyes look: empty, and it sees all; "-", and it sees nothing; else words, of which the first is a team
("*" for any) and the others, if there are any, the only models that it sees (domain/access.py, `viewer_of`).
"""
# ruff: noqa: S608 - made of this module's own text

SEEN = """(:viewer = '' OR (:viewer <> '-'
    AND (strpos(:viewer, ' ') = 0 OR m.name = ANY((string_to_array(:viewer, ' '))[2:]))
    AND (m.team_id IS NULL OR split_part(:viewer, ' ', 1) = '*'
        OR m.team_id = (SELECT own.id FROM teams own WHERE own.name = split_part(:viewer, ' ', 1))
        OR m.id IN (SELECT seen.model_id FROM model_shares seen JOIN teams seer ON seer.id = seen.team_id
                    WHERE seer.name = split_part(:viewer, ' ', 1)))))"""
"""Whether `:viewer` sees the model `m`; the one place that says so. The viewer's team, and what is shared with
it, are read once, not for each model: a list asks it of thousands."""

VERSIONS = f"""
    SELECT v.*, m.name AS model_name, m.framework AS framework, t.name AS team,
        ARRAY(SELECT a.alias FROM model_aliases a WHERE a.version_id = v.id ORDER BY a.alias) AS aliases,
        (SELECT jsonb_build_object('kind', s.kind, 'verified', s.verified, 'signer', s.signer, 'problem', s.problem,
            'checked_at', s.checked_at) FROM version_signatures s WHERE s.version_id = v.id) AS signature
    FROM model_versions v JOIN models m ON m.id = v.model_id LEFT JOIN teams t ON t.id = m.team_id
    WHERE {SEEN}
"""
MODELS = f"""
    SELECT m.*, t.name AS team,
        (SELECT v.version FROM model_versions v WHERE v.model_id = m.id ORDER BY v.precedence DESC LIMIT 1)
            AS latest_version,
        (SELECT count(*) FROM model_versions v WHERE v.model_id = m.id) AS version_count,
        (SELECT coalesce(jsonb_object_agg(a.alias, v.version), '{{}}')
            FROM model_aliases a JOIN model_versions v ON v.id = a.version_id WHERE a.model_id = m.id) AS aliases,
        ARRAY(SELECT st.name FROM model_shares s JOIN teams st ON st.id = s.team_id WHERE s.model_id = m.id
            AND (:viewer = '' OR split_part(:viewer, ' ', 1) IN ('*', t.name, st.name)) ORDER BY st.name) AS shared_with
    FROM models m LEFT JOIN teams t ON t.id = m.team_id
    WHERE {SEEN}
"""
ALIASES = f"""
    SELECT a.model_id, m.name AS model_name, a.alias, v.version, a.updated_by, a.updated_at, a.revision
    FROM model_aliases a JOIN models m ON m.id = a.model_id JOIN model_versions v ON v.id = a.version_id
    WHERE {SEEN}
"""
