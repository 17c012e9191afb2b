"""Two-sample tests, intervals, false-discovery control: numpy and scipy only."""
