"""when epochs were sent

A run's messages are told lost by the moments at which they were sent, not by its last sign of life. A release that
knows nothing of these columns leaves them too old, and what it has just sent may be sent once more.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for name in ("renewed_at", "published_at"):
        op.add_column(
            "runs", sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
        )


def downgrade() -> None:
    for name in ("published_at", "renewed_at"):
        op.drop_column("runs", name)
