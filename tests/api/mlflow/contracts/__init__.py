"""The calls that Loopline and MLflow's own server answer alike, by topic."""

from contracts import artifacts, registry, tracking

TOPICS = {**tracking.TOPICS, **artifacts.TOPICS, **registry.TOPICS}
