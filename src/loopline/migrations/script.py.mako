"""${message}"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the tables from the revision before to this one."""
    ${upgrades}
% if statistics:
    if op.get_bind().dialect.name == "postgresql":
% for text in statistics:
        op.execute(${repr(text)})
% endfor
% endif
