"""Members and keys of teams, and what teams may use."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS: tuple[str, ...] = ()


def upgrade() -> None:
    """Makes it so."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Back to how it was."""
