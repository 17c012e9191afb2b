"""Delta tables that others write, as a source."""
