"""The calls that Loopline and MLflow's own server answer alike, by topic."""

from contracts import registry, tracking

TOPICS = {**tracking.TOPICS, **registry.TOPICS}
