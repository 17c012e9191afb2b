"""Runs beside each other: what differs, and whether that is more than chance."""
