"""Predictions and the labels that come later, joined by id."""
