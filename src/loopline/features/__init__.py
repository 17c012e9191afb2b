"""Transforms from raw columns to numbers, the same object at training and at serving."""
