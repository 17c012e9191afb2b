"""The append-only, tamper-evident record: entries, Merkle tree, checkpoints, lineage."""
