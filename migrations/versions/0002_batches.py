"""batches"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_OPEN = "status in ('validating', 'in_progress', 'finalizing', 'cancelling')"


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("key_id", sa.UUID(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lines", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_whole", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("purpose in ('batch', 'batch_output')", name="purpose_known"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("files_by_key", "files", ["key_id", "created_at"], unique=False)
    op.create_table(
        "file_lines",
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("body", postgresql.BYTEA(), nullable=False),
        sa.PrimaryKeyConstraint("file_id", "number"),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("key_id", sa.UUID(), nullable=True),
        sa.Column("file_id", sa.UUID(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="validating", nullable=False),
        sa.Column("ends_as", sa.Text(), nullable=True),
        sa.Column("budget_nanousd", sa.BigInteger(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("fed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("written", sa.Integer(), server_default="0", nullable=False),
        sa.Column("completed", sa.BigInteger(), nullable=True),
        sa.Column("failed", sa.BigInteger(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("output_file_id", sa.UUID(), nullable=True),
        sa.Column("error_file_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("in_progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finalizing_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelling_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status in ('validating', 'in_progress', 'finalizing', 'cancelling', 'completed', 'failed', 'expired',"
            " 'cancelled')",
            name="status_known",
        ),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("batches_by_key", "batches", ["key_id", "created_at"], unique=False)
    op.create_index("batches_open", "batches", ["id"], unique=False, postgresql_where=sa.text(_OPEN))
    op.create_table(
        "batch_lines",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint("(run_id is null) <> (error is null)", name="run_or_error"),
        sa.PrimaryKeyConstraint("batch_id", "number"),
    )
    op.create_index(
        "batch_lines_by_name",
        "batch_lines",
        ["batch_id", "custom_id"],
        unique=True,
        postgresql_where=sa.text("error is null"),
    )
    op.create_index(
        "batch_lines_bad", "batch_lines", ["batch_id"], unique=False, postgresql_where=sa.text("error is not null")
    )
    op.drop_index("runs_of_batch", table_name="runs")
    op.create_index(
        "runs_of_batch", "runs", ["batch_id", "status"], unique=False, postgresql_where=sa.text("batch_id is not null")
    )


def downgrade() -> None:
    op.drop_index("runs_of_batch", table_name="runs")
    op.create_index(
        "runs_of_batch", "runs", ["batch_id"], unique=False, postgresql_where=sa.text("batch_id is not null")
    )
    for table in ("batch_lines", "batches", "file_lines", "files"):
        op.drop_table(table)
