"""The rule for deployments that fail, which is there from the start."""

import json

from alembic import op

revision = "0010"
down_revision = "0009"

_NAME = "deployment_failed"
_SPEC = {
    "name": _NAME,
    "condition": {"kind": "events", "events": [_NAME]},
    "severity": "critical",
    "description": "A deployment could not be carried out.",
    "model": "",
    "version": "",
    "channels": [],
    "action": "none",
    "enabled": True,
}


def upgrade() -> None:
    """Adds it, unless someone has a rule of that name."""
    text = json.dumps(_SPEC).replace(":", "\\:")
    op.execute(
        "INSERT INTO alert_rules (name, model_id, spec, etag, created_at, updated_at) "  # noqa: S608 - our own words
        f"VALUES ('{_NAME}', '', '{text}', nextval('alert_revisions')::text, now(), now()) ON CONFLICT DO NOTHING"
    )


def downgrade() -> None:
    """Removes it."""
    op.execute(f"DELETE FROM alert_rules WHERE name = '{_NAME}'")  # noqa: S608 - our own words
