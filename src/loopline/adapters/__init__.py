"""One folder per third-party system; each speaks to a port and to nothing above it."""
