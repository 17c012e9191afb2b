"""Loopline: the whole machine-learning lifecycle as one closed loop, in one install."""

__version__ = "0.1.0"
