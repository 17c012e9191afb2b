"""The ledger's tables.

Space is counted here (250 bytes an entry with everything): an entry is its canonical JSON and eight bytes of its leaf hash; of
the Merkle tree only every eighth level is kept; a link from a ref to an entry is a checksum of the ref and the entry's number.
"""

from __future__ import annotations

import sqlalchemy as sa

from loopline.database import metadata

_Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")

entries = sa.Table(
    "ledger_entries",
    metadata,
    sa.Column("seq", _Number, primary_key=True, autoincrement=False),
    sa.Column("body", sa.Text, nullable=False),
    # The first bytes of the leaf hash: they let verification name the one entry that was edited.
    sa.Column("leaf", sa.LargeBinary, nullable=False),
)

links = sa.Table(
    "ledger_links",
    metadata,
    # CRC-32 of the printed ref, shifted into a signed integer. Another ref may share it: readers look into the entry.
    sa.Column("key", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", _Number, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

nodes = sa.Table(
    "ledger_nodes",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("place", _Number, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

head = sa.Table(
    "ledger_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("size", _Number, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    # Of the newest checkpoint: append decides by them whether another is due.
    sa.Column("signed_size", _Number, nullable=False),
    sa.Column("signed_time", sa.BigInteger, nullable=False),
)

checkpoints = sa.Table(
    "ledger_checkpoints",
    metadata,
    sa.Column("size", _Number, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

keys = sa.Table(
    "ledger_keys",
    metadata,
    sa.Column("since", _Number, primary_key=True, autoincrement=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("verifier", sa.Text, nullable=False),
)

cursors = sa.Table(
    "ledger_cursors",
    metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("seq", _Number, nullable=False),
)
