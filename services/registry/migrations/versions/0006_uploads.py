"""Uploads that go on after a break, and how artifacts are stored."""

from alembic import op

revision = "0006"
down_revision = "0005"

_STATEMENTS: tuple[str, ...] = ()


def upgrade() -> None:
    """Makes it so."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Back to how it was."""
