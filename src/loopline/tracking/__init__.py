"""Runs: params, metric series, artifacts, search."""
