"""What objects in clusters ask for beside the rest of the wish: that replicas are made anew, and other shares."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Shares that were handed on once are not handed on again: objects state them still."""
    op.execute("ALTER TABLE deployments ADD COLUMN object_wish jsonb NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE deployments ADD COLUMN split_generation bigint NOT NULL DEFAULT 0")
    op.execute(
        "UPDATE deployments SET object_wish = jsonb_build_object('traffic_split', traffic_split) "
        "WHERE cluster <> 'local'"
    )


def downgrade() -> None:
    """As it was."""
    for column in ("object_wish", "split_generation"):
        op.execute(f"ALTER TABLE deployments DROP COLUMN {column}")
