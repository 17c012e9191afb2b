"""The calls that Loopline and MLflow's own server answer alike, by topic."""

from contracts import tracking

TOPICS = {**tracking.TOPICS}
