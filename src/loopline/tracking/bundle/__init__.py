"""Run bundles: a run with its children in one signed file, for another instance."""
