"""Endpoints and their guarded rollouts."""
