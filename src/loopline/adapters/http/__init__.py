"""Interfaces over HTTP that give rows, page by page, as a source."""
