"""The HTTP door: routes derived from the operations."""
