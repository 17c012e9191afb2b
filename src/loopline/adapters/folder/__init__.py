"""Files on this machine as a source: one, a folder of them, or those of a pattern."""
