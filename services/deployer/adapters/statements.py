"""What the store says to PostgreSQL."""

from sqlalchemy import text

INSERT = text("""
    INSERT INTO deployments
        (model_id, version_id, deployment_name, environment, cluster, namespace, replicas, resources,
         autoscaling_config, batching_config, serving_options, external_backend, traffic_split, request_id, created_by,
         team_id, recipe, object_wish)
    VALUES
        (:model, :version, :name, :environment, :cluster, :namespace, :replicas, CAST(:resources AS jsonb),
         CAST(:autoscaling AS jsonb), CAST(:batching AS jsonb), CAST(:serving AS jsonb), CAST(:external AS jsonb),
         CAST(:traffic_split AS jsonb), :request_id, :created_by, :team, CAST(:recipe AS jsonb),
         CAST(:of_object AS jsonb))
    RETURNING *
""")
RIVALS = text("""
    SELECT * FROM deployments
    WHERE (team_id = :team AND request_id = :request_id)
       OR (model_id = :model AND deployment_name = :name AND successor_id IS NULL)
       OR (model_id = :model AND version_id = :version)
    ORDER BY team_id = :team AND request_id = :request_id DESC NULLS LAST, deployment_name = :name DESC
    LIMIT 1
""")
FIND = text("SELECT * FROM deployments WHERE model_id = :model AND deployment_name = :name AND successor_id IS NULL")
HOLDER = text("SELECT * FROM deployments WHERE model_id = :model AND version_id = :version")
# Every change of a row is by a transaction of its own, whose number the row then has.
EVERY_STATE = text("SELECT id, CAST(xmin AS text) AS state FROM deployments ORDER BY model_id, deployment_name")
THESE = text("SELECT *, CAST(xmin AS text) AS state FROM deployments WHERE id = ANY(CAST(:ids AS uuid[]))")
PAGE = text("""
    SELECT * FROM deployments
    WHERE successor_id IS NULL AND (:model = '' OR model_id = :model) AND (:status = '' OR status = :status)
      AND (CAST(:models AS text[]) IS NULL OR model_id = ANY(CAST(:models AS text[])))
      AND (:environment = '' OR environment = :environment)
      AND (model_id, deployment_name) > (:after_model, :after_name)
    ORDER BY model_id, deployment_name
    LIMIT :limit
""")
CHANGE = text("""
    UPDATE deployments SET
        replicas = :replicas, resources = CAST(:resources AS jsonb),
        autoscaling_config = CAST(:autoscaling AS jsonb), batching_config = CAST(:batching AS jsonb),
        serving_options = CAST(:serving AS jsonb), external_backend = CAST(:external AS jsonb),
        generation = generation + 1, attempts = 0, next_attempt_at = NULL, scaled_replicas = NULL,
        loaded = CASE WHEN :reload
            THEN (SELECT coalesce(jsonb_object_agg(server, ''), '{}') FROM jsonb_object_keys(loaded) AS keys (server))
            ELSE loaded END,
        object_wish = CAST(:of_object AS jsonb),
        traffic_split = CASE WHEN :reroute THEN CAST(:split AS jsonb) ELSE traffic_split END,
        split_generation = CASE WHEN :reroute THEN CAST(:split_generation AS bigint) ELSE split_generation END,
        traffic_routed = traffic_routed AND NOT :reroute,
        updated_at = now()
    WHERE id = CAST(:id AS uuid) AND generation = :generation AND NOT deleting
    RETURNING *
""")
DELETE = text("""
    UPDATE deployments SET deleting = true, status = 'terminating', attempts = 0, next_attempt_at = NULL,
        updated_at = now()
    WHERE id = CAST(:id AS uuid) AND generation = :generation
    RETURNING *
""")
# Older versions go with the deployment.
DELETE_OLDER = text("""
    UPDATE deployments SET deleting = true, status = 'terminating', attempts = 0, next_attempt_at = NULL,
        updated_at = now()
    WHERE successor_id = CAST(:id AS uuid) AND NOT deleting
""")
RECORD = text("""
    UPDATE deployments SET
        status = :status, health_status = :health, observed_generation = :observed_generation,
        loaded = CAST(:loaded AS jsonb), ready_replicas = :ready_replicas, error_reason = :error_reason,
        error_message = :error_message, conditions = CAST(:conditions AS jsonb), attempts = :attempts,
        next_attempt_at = CAST(:next_attempt_at AS timestamptz), load_time_ms = :load_time_ms,
        memory_bytes = :memory_bytes, deployed_at = :deployed_at, withdrawn_at = :withdrawn_at,
        traffic_routed = :traffic_routed, asleep_since = :asleep_since,
        scaled_replicas = CAST(:scaled_replicas AS integer), warm_until = :warm_until, updated_at = now()
    WHERE id = CAST(:id AS uuid)
""")
LOCK = text("SELECT * FROM deployments WHERE id = CAST(:id AS uuid) FOR UPDATE")
OF_VERSION = text("""
    SELECT * FROM deployments WHERE model_id = :model AND version_id = :version FOR UPDATE
""")
# The row of the version that a deployment had stays as it is, under an id of its own: what it has loaded goes on.
BECOME_OLDER = text("""
    UPDATE deployments SET id = gen_random_uuid(), successor_id = CAST(:id AS uuid), request_id = NULL,
        updated_at = now()
    WHERE id = CAST(:id AS uuid)
""")
BECOME_CURRENT = text("""
    UPDATE deployments SET id = CAST(:id AS uuid), successor_id = NULL, created_at = :created_at,
        created_by = :created_by, request_id = :request_id, environment = :environment, namespace = :namespace,
        traffic_split = CAST(:traffic_split AS jsonb), recipe = CAST(:recipe AS jsonb), replicas = :replicas,
        resources = CAST(:resources AS jsonb), autoscaling_config = CAST(:autoscaling AS jsonb),
        batching_config = CAST(:batching AS jsonb), serving_options = CAST(:serving AS jsonb),
        external_backend = CAST(:external AS jsonb), object_wish = CAST(:of_object AS jsonb),
        split_generation = :split_generation, generation = :generation + 1, attempts = 0,
        next_attempt_at = NULL, scaled_replicas = NULL, warm_until = NULL,
        traffic_routed = false, previous_version = :previous_version, updated_at = now(),
        conditions = (SELECT coalesce(jsonb_agg(step), '[]') FROM jsonb_array_elements(conditions) AS steps (step)
            WHERE step->>'type' NOT IN ('Routed', 'Superseded'))
    WHERE id = CAST(:older_id AS uuid)
    RETURNING *
""")
INSERT_CURRENT = text("""
    INSERT INTO deployments
        (id, created_at, generation, previous_version, model_id, version_id, deployment_name, environment, cluster,
         namespace, replicas, resources, autoscaling_config, batching_config, serving_options, external_backend,
         traffic_split, request_id, created_by, team_id, recipe, object_wish, split_generation)
    VALUES
        (CAST(:id AS uuid), :created_at, :generation + 1, :previous_version, :model, :version, :name, :environment,
         :cluster, :namespace, :replicas, CAST(:resources AS jsonb), CAST(:autoscaling AS jsonb),
         CAST(:batching AS jsonb), CAST(:serving AS jsonb), CAST(:external AS jsonb), CAST(:traffic_split AS jsonb),
         :request_id, :created_by, :team, CAST(:recipe AS jsonb), CAST(:of_object AS jsonb), :split_generation)
    RETURNING *
""")
# Request ids are of the team that sent them.
HAND_OVER = text("""
    UPDATE deployments SET team_id = :team, request_id = NULL, updated_at = now()
    WHERE model_id = :model AND team_id <> :team
""")
# Held to the end of the transaction, so that of two deployments that would fit one by one the second sees the first.
MEASURE_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended('deployer quota of ' || CAST(:team AS text), 0))")
OF_TEAM = text("SELECT * FROM deployments WHERE team_id = :team AND NOT deleting AND successor_id IS NULL")
FORGET = text("DELETE FROM deployments WHERE id = CAST(:id AS uuid)")
REVISION = text("SELECT nextval('backend_revision')")
TELL = text("""
    INSERT INTO deployment_events (model_id, deployment_name, type, status, message, actor, generation)
    VALUES (:model, :name, :type, :status, :message, :actor, :generation)
""")
EVENTS = text("""
    SELECT * FROM deployment_events
    WHERE model_id = :model AND deployment_name = :name AND (CAST(:before AS bigint) IS NULL OR id < :before)
    ORDER BY id DESC
    LIMIT :limit
""")
FORGET_EVENTS = text("DELETE FROM deployment_events WHERE time < now() - make_interval(days => :days)")
