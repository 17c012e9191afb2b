"""Standing checks on what is served: drift, quality, freshness; and alerts."""
