"""Which path belongs to which protocol, and what is asked there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from loopline.errors import Invalid
from loopline.serving.call import Codec
from loopline.serving.foreign import mlflow, tensorflow
from loopline.serving.foreign.sagemaker import Invocation
from loopline.serving.live import Live, LiveEndpoint, LiveVariant
from loopline.serving.problems import Problem, wrong_method

_INVOCATIONS = re.compile(r"(?:/endpoints/([^/]+))?/invocations")
_MODELS = re.compile(r"/v1/models/([^/:]+)(?:/(versions|labels)/([^/:]+))?(?::(predict|classify|regress)|(/metadata)|)")


class Door:
    """What a path asks: an inference by `codec`, or, where that is None, what `about` tells of an endpoint.

    `endpoint` None stands for the only one that there is; `kind` and `name` (`versions`, `3`) choose a variant.
    """

    def __init__(
        self,
        endpoint: str | None,
        codec: Callable[[dict[bytes, bytes]], Codec] | None,
        about: Callable[[LiveEndpoint, LiveVariant | None], dict[str, Any]] = tensorflow.status,
        kind: str = "",
        name: str = "",
    ) -> None:
        self._endpoint = endpoint
        self.codec = codec
        self.about = about
        self._kind = kind
        self._name = name

    def check_method(self, method: str) -> None:
        """Raises the 405."""
        if self.codec is not None and method != "POST":
            raise wrong_method(method, "POST")
        if self.codec is None and method not in ("GET", "HEAD"):
            raise wrong_method(method, "GET")

    def endpoint(self, live: Live) -> str:
        """The endpoint's name. Raises `Problem` where the path names none and there is not just one."""
        if self._endpoint is not None:
            return self._endpoint
        names = [*live.endpoints, *live.failed]
        if len(names) != 1:
            raise Problem(
                404 if names else 503,
                Invalid(
                    f"{len(names)} endpoints are served here, and /invocations names none.",
                    code="which-endpoint",
                    hint="Use /endpoints/NAME/invocations.",
                ),
            )
        return names[0]

    def variant(self, endpoint: LiveEndpoint) -> LiveVariant | None:
        """The variant that the path chooses; None: it chooses none. Raises the 404."""
        return tensorflow.variant_of(endpoint, self._kind, self._name) if self._kind else None


def find(path: str) -> Door | None:
    """What another protocol asks at this path; None: none of them does."""
    if found := _INVOCATIONS.fullmatch(path):
        return Door(found[1], Invocation)
    if found := _MODELS.fullmatch(path):
        endpoint, kind, name, asked, about = found.groups()
        if asked is not None:
            verb = cast(tensorflow.Verb, asked)
            return Door(endpoint, lambda headers: tensorflow.Prediction(verb), kind=kind or "", name=name or "")
        told = tensorflow.metadata if about else tensorflow.status
        return Door(endpoint, None, told, kind or "", name or "")
    return None


def refusal(path: str, problem: Problem) -> bytes:
    """The body of a refusal, in the shape of the protocol that the path belongs to."""
    if path.endswith("/invocations"):
        return mlflow.refuse(problem)
    return problem.body(not path.startswith(("/v2", "/v1/models")))
