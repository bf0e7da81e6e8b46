"""Alert rules, what they remember, notification channels, silences, and the letters to channels."""

import json

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS = (
    "ALTER TABLE alerts ADD COLUMN kind text NOT NULL DEFAULT ''",
    "ALTER TABLE alerts ADD COLUMN told jsonb NOT NULL DEFAULT '{}'",
    "ALTER TABLE alerts ADD COLUMN done text NOT NULL DEFAULT ''",
    "ALTER TABLE alerts ADD COLUMN settled boolean NOT NULL DEFAULT false",
    "UPDATE alerts SET kind = rule_name, settled = status = 'resolved'",
    "CREATE INDEX alerts_unsettled ON alerts (rule_name) WHERE NOT settled",
    """
    COMMENT ON COLUMN alerts.settled IS 'It is over, and all who were told of it were written that it is.'
    """,
    """
    CREATE TABLE alert_rules (
        name text COLLATE "C" PRIMARY KEY,
        model_id text NOT NULL,
        spec jsonb NOT NULL,
        etag text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        created_by text NOT NULL DEFAULT '',
        request_id text NOT NULL DEFAULT '',
        request_digest text NOT NULL DEFAULT ''
    )
    """,
    "CREATE UNIQUE INDEX alert_rules_request ON alert_rules (request_id) WHERE request_id <> ''",
    "CREATE SEQUENCE alert_revisions",
    """
    CREATE TABLE alert_watches (
        rule_name text NOT NULL REFERENCES alert_rules ON DELETE CASCADE,
        model_id text NOT NULL,
        version_id text NOT NULL,
        holding_since timestamptz,
        calm_since timestamptz,
        decided_at timestamptz,
        looked_at timestamptz,
        alert_id text NOT NULL DEFAULT '',
        seen_at timestamptz,
        PRIMARY KEY (rule_name, model_id, version_id)
    )
    """,
    "COMMENT ON TABLE alert_watches IS 'Since when conditions hold, so that whoever goes on knows it.'",
    "CREATE TABLE alert_looks (revision bigint NOT NULL)",
    "INSERT INTO alert_looks VALUES (1)",
    """
    COMMENT ON TABLE alert_looks IS 'Grows with every look and every change of a rule: whoever was overtaken stores
 nothing.'
    """,
    """
    CREATE TABLE notification_channels (
        name text COLLATE "C" PRIMARY KEY,
        spec jsonb NOT NULL,
        secret bytea,
        etag text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        request_id text NOT NULL DEFAULT '',
        request_digest text NOT NULL DEFAULT ''
    )
    """,
    "CREATE UNIQUE INDEX notification_channels_request ON notification_channels (request_id) WHERE request_id <> ''",
    "COMMENT ON COLUMN notification_channels.secret IS 'Encrypted with AES-256-GCM, bound to the channel''s name.'",
    """
    CREATE TABLE silences (
        silence_id text PRIMARY KEY,
        rule_name text NOT NULL,
        model_id text NOT NULL,
        reason text NOT NULL,
        start_time timestamptz NOT NULL,
        end_time timestamptz NOT NULL,
        created_by text NOT NULL,
        request_id text NOT NULL DEFAULT '',
        request_digest text NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX silences_end ON silences (end_time)",
    "CREATE UNIQUE INDEX silences_request ON silences (request_id) WHERE request_id <> ''",
    """
    CREATE TABLE alert_notices (
        notice_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        number bigint GENERATED ALWAYS AS IDENTITY,
        channel text NOT NULL,
        means text NOT NULL,
        stage text NOT NULL,
        alert_ids text[] NOT NULL,
        alerts jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        tries integer NOT NULL DEFAULT 0,
        attempted_at timestamptz,
        outcome text CHECK (outcome IN ('sent', 'given_up')),
        problem text NOT NULL DEFAULT '',
        ended_at timestamptz
    )
    """,
    "COMMENT ON COLUMN alert_notices.alerts IS 'The alerts as they were when this was written.'",
    "CREATE INDEX alert_notices_due ON alert_notices (due_at) WHERE outcome IS NULL",
    "CREATE INDEX alert_notices_ended ON alert_notices (ended_at) WHERE outcome IS NOT NULL",
    "CREATE INDEX alert_notices_alerts ON alert_notices USING gin (alert_ids)",
    # Rows come in the order of time, so a few bytes for each range of pages find a window over all models.
    'CREATE INDEX model_metrics_moment ON model_metrics USING brin ("timestamp") WITH (pages_per_range = 16)',
    'CREATE INDEX latency_sketches_moment ON latency_sketches USING brin ("timestamp") WITH (pages_per_range = 16)',
)


def _threshold(metric: str, threshold: float, window_s: int, for_s: int) -> dict[str, object]:
    return {
        "kind": "threshold",
        "metric": metric,
        "comparison": ">",
        "threshold": threshold,
        "window_s": window_s,
        "for_s": for_s,
        "min_requests": 100,
    }


_FROM_THE_START = (
    ("error-rate", "critical", "More than 5 % of a version's requests fail.", _threshold("error_rate", 0.05, 300, 60)),
    (
        "latency-p95",
        "warning",
        "One request in twenty takes longer than 200 ms.",
        _threshold("latency_p95_ms", 200.0, 300, 60),
    ),
    (
        "low-confidence",
        "warning",
        "More than 20 % of a version's predictions have a confidence under 0.5.",
        _threshold("low_confidence_rate", 0.2, 300, 60),
    ),
    (
        "unusual-traffic",
        "warning",
        "The last hour had many more or fewer requests than is usual for the model at this time.",
        _threshold("traffic_deviation", 5.0, 3600, 0),
    ),
    *(
        (kind, "critical", description, {"kind": "events", "events": [kind]})
        for kind, description in (
            ("canary_failed", "A canary broke a limit, or was ended."),
            ("canary_held", "A canary is held: there is too little evidence to go on."),
            ("rolled_back", "A model went back to an earlier version."),
            ("ab_test_ended", "An A/B test ended otherwise than planned."),
        )
    ),
)


def upgrade() -> None:
    """Makes the tables, and the rules that there are from the start."""
    for statement in _STATEMENTS:
        op.execute(statement)
    for name, severity, description, condition in _FROM_THE_START:
        spec = {
            "name": name,
            "condition": condition,
            "severity": severity,
            "description": description,
            "model": "",
            "version": "",
            "channels": [],
            "action": "none",
            "enabled": True,
        }
        text = json.dumps(spec).replace("'", "''").replace(":", "\\:")
        op.execute(
            "INSERT INTO alert_rules (name, model_id, spec, etag, created_at, updated_at) "  # noqa: S608 - our own words
            f"VALUES ('{name}', '', '{text}', nextval('alert_revisions')::text, now(), now())"
        )


def downgrade() -> None:
    """Drops the tables; what waits is not sent."""
    op.execute("DROP INDEX latency_sketches_moment")
    op.execute("DROP INDEX model_metrics_moment")
    for table in ("alert_notices", "silences", "notification_channels", "alert_looks", "alert_watches", "alert_rules"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP SEQUENCE alert_revisions")
    op.execute("DROP INDEX alerts_unsettled")
    for column in ("settled", "done", "told", "kind"):
        op.execute(f"ALTER TABLE alerts DROP COLUMN {column}")
