"""Measured evidence about a model version, and gates: pure rules on that evidence."""
