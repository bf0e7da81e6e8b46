"""What is read out of artifacts, and the check of their signatures."""

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS: tuple[str, ...] = ()


def upgrade() -> None:
    """Makes it so."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Back to how it was."""
