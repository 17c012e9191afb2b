"""Controls, retention, erasure and incidents, read from the records below."""
