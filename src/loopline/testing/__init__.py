"""Conformance suites, one per port, and in-memory fakes."""
