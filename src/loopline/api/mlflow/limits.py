"""What MLflow's server takes of keys and values, and its sentences for what it does not take."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from loopline.api.mlflow.messages import invalid
from loopline.api.mlflow.problems import Problem

KEY = 250
PARAM = 6000
TAG = 8000
EXPERIMENT_NAME = 500
EXPERIMENT_TAG = 20_000
METRICS = 1000
PARAMS = 100
TAGS = 100
ENTITIES = 1000
MAX_RESULTS = 50_000

_KEY = re.compile(r"[/\w.\- :]*")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_ALLOWED = "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."


def check_key(key: str, path: str) -> None:
    """Raises where a key of a metric, param or tag is none."""
    if not _KEY.fullmatch(key):
        raise Problem(invalid(path, key, _ALLOWED))
    plain = posixpath.normpath(key)
    if plain != key or plain == "." or plain.startswith(("..", "/")):
        raise Problem(
            invalid(
                path,
                key,
                "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. "
                f"This name would resolve to {plain!r}",
            )
        )


def check_length(what: str, most: int, text: str) -> None:
    """Raises where a text is too long."""
    if len(text) > most:
        raise Problem(f"'{what}' exceeds the maximum length of {most} characters")


def check_count(what: str, most: int, count: int) -> None:
    """Raises where a batch brings too many of something."""
    if count > most:
        raise Problem(
            f"A batch logging request can contain at most {most} {what}. Got {count} {what}. Please split up {what} across "
            "multiple requests and try again."
        )


def param(key: str, value: str, path: str = "") -> tuple[str, str]:
    """A param as it is kept: its value is cut where it is too long. Raises where it cannot be."""
    check_key(key, f"{path}.key" if path else "key")
    check_length("Param key", KEY, key)
    return key, value[:PARAM]


def tag(key: str, value: str, path: str = "") -> tuple[str, str]:
    """A tag of a run as it is kept: its value is cut where it is too long. Raises where it cannot be."""
    lead = f"{path}." if path else ""
    check_key(key, f"{lead}key")
    check_length(f"{lead}key", KEY, key)
    return key, value[:TAG]


def check_metric(key: str, value: Any, timestamp: int, path: str = "") -> None:
    """Raises where a point of a metric cannot be."""
    lead = f"{path}." if path else ""
    check_key(key, f"{lead}name")
    if timestamp < 0:
        raise Problem(
            invalid(
                f"{lead}timestamp",
                timestamp,
                f"metric '{key}' (value={value}). Timestamp must be a nonnegative long (64-bit integer) ",
            )
        )
    check_length("Metric name", KEY, key)


def check_run_id(run: str) -> None:
    """Raises where a text is no id of a run."""
    if not _RUN_ID.fullmatch(run):
        raise Problem(invalid("run_id", run))


def check_results(most: int, largest: int = MAX_RESULTS) -> None:
    """Raises where a page is asked for that is empty or too long."""
    if most < 1:
        raise Problem(f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive integer")
    if most > largest:
        raise Problem(f"Invalid value {most} for parameter 'max_results' supplied. It must be at most {largest}")
