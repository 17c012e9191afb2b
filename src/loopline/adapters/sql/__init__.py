"""Databases that speak SQL as a source: SQLite, PostgreSQL, and whatever else SQLAlchemy has a driver for."""
