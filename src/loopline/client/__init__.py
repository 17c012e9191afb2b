"""The same verbs as the platform's, spoken over HTTP with the standard library."""
