"""Protocols for what has two or more real implementations, and the seams that tests need."""
