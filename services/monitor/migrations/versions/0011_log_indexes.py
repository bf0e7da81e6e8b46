"""Fewer indexes on inference_logs: each costs every row as much as all the rest of storing it.

The rows of a model by time carry their version, so that a search for one passes over the others in the index itself;
an index of its own is not needed. Nothing looks rows up by their id alone, so they need no primary key: pages go on
behind a moment and an id within a model. The new index is built while the log waits; batchers hold it meanwhile.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

_UP = (
    "ALTER TABLE inference_logs DROP CONSTRAINT inference_logs_pkey",
    "DROP INDEX inference_logs_version",
    "DROP INDEX inference_logs_time",
    'CREATE INDEX inference_logs_time ON inference_logs (model_id, "timestamp", id, version_id)',
)
_DOWN = (
    "DROP INDEX inference_logs_time",
    'CREATE INDEX inference_logs_time ON inference_logs (model_id, "timestamp", id)',
    'CREATE INDEX inference_logs_version ON inference_logs (model_id, version_id, "timestamp", id)',
    'ALTER TABLE inference_logs ADD PRIMARY KEY ("timestamp", id)',
)


def upgrade() -> None:
    """Drops what is not needed."""
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Makes them again."""
    for statement in _DOWN:
        op.execute(statement)
