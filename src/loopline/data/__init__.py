"""Sources, dataset versions, quarantine, splits and diffs."""
