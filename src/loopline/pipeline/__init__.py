"""Steps, their graph, the journal of steps and the cache."""
