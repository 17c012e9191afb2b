"""Datasets of files: folders kept as versions, by content."""
