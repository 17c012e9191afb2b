"""Which path belongs to which protocol, and what is asked there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

from loopline.errors import Invalid
from loopline.serving.call import Codec
from loopline.serving.foreign import azure, cloudevents, mlflow, tensorflow, torchserve
from loopline.serving.foreign.cloudevents import Event, is_event
from loopline.serving.foreign.sagemaker import Invocation
from loopline.serving.live import Live, LiveEndpoint, LiveVariant
from loopline.serving.problems import Problem, wrong_method

_ONE = re.compile(r"(?:/endpoints/([^/]+))?/(invocations|score|swagger\.json)")
_EVENTS = re.compile(r"/events(?:/([^/]+))?")
_MODELS = re.compile(
    r"/v1/models/([^/:]+)(?:/(versions|labels)/([^/:]+))?(?::(predict|classify|regress|explain)|(/metadata)|)"
)
_TORCH = re.compile(r"/(predictions|explanations|models)/([^/]+)(?:/([^/]+))?")

About = Callable[[LiveEndpoint, LiveVariant | None, dict[str, str]], Any]
"""What is told of an endpoint, or of one of its variants, to a request with such a query."""


class Door:
    """What a path asks: an inference by `codec`, or, where that is None, what `about` tells of an endpoint.

    `endpoint` None stands for the only one that there is; `kind` and `name` (`versions`, `3`) choose a variant. `methods` are
    those that ask. Where `explains`, explanations are the answer.
    """

    def __init__(
        self,
        endpoint: str | None,
        codec: Callable[[dict[bytes, bytes]], Codec] | None = None,
        about: About | None = None,
        kind: str = "",
        name: str = "",
        *,
        methods: tuple[str, ...] = ("POST",),
        explains: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self.codec = codec
        self.about = about
        self._kind = kind
        self._name = name
        self._methods = methods if codec is not None else ("GET", "HEAD")
        self.explains = explains

    def check_method(self, method: str) -> None:
        """Raises the 405."""
        if method not in self._methods:
            raise wrong_method(method, self._methods[0])

    def endpoint(self, live: Live, path: str) -> str:
        """The endpoint's name. Raises `Problem` where the path names none and there is not just one."""
        if self._endpoint is not None:
            return self._endpoint
        names = [*live.endpoints, *live.failed]
        if len(names) != 1:
            named = f"{path}/NAME" if path == "/events" else f"/endpoints/NAME{path}"
            raise Problem(
                404 if names else 503,
                Invalid(
                    f"{len(names)} endpoints are served here, and {path} names none.",
                    code="which-endpoint",
                    hint=f"Use {named}.",
                ),
            )
        return names[0]

    def variant(self, endpoint: LiveEndpoint, headers: dict[bytes, bytes]) -> LiveVariant | None:
        """The variant that the path chooses, or a header; None: neither does. Raises the 404."""
        kind, name = self._kind, self._name
        if kind == "deployment":
            kind, name = "labels", headers.get(azure.DEPLOYMENT, b"").decode("latin-1")
        return tensorflow.variant_of(endpoint, kind, name) if name else None


def find(path: str) -> Door | None:
    """What another protocol asks at this path; None: none of them does."""
    if found := _ONE.fullmatch(path):
        endpoint, asked = found.groups()
        if asked == "invocations":
            return Door(endpoint, Invocation)
        if asked == "score":
            return Door(endpoint, azure.Score, kind="deployment")
        return Door(endpoint, about=lambda served, _, query: azure.swagger(served, query.get("version", "2")))
    if found := _EVENTS.fullmatch(path):
        return Door(found[1], cloudevents.codec)
    if found := _MODELS.fullmatch(path):
        return _tensorflow(*found.groups())
    if found := _TORCH.fullmatch(path):
        asked, endpoint, version = found.groups()
        if asked == "models":
            version = "" if version in (None, "all") else version
            return Door(endpoint, None, lambda served, only, _: torchserve.described(served, only), "versions", version)
        explains = asked == "explanations"
        ways = ("POST", "PUT")
        return Door(endpoint, torchserve.Prediction, None, "versions", version or "", methods=ways, explains=explains)
    return None


def _tensorflow(endpoint: str, kind: str | None, name: str | None, asked: str | None, about: str | None) -> Door:
    if asked is None:
        told = tensorflow.metadata if about else tensorflow.status
        return Door(endpoint, None, lambda served, only, _: told(served, only), kind or "", name or "")
    verb = cast(tensorflow.Verb, "predict" if asked == "explain" else asked)

    def codec(headers: dict[bytes, bytes]) -> Codec:
        plain = tensorflow.Prediction(verb)
        return Event(headers, plain) if asked == "predict" and is_event(headers) else plain

    return Door(endpoint, codec, None, kind or "", name or "", explains=asked == "explain")


def refusal(path: str, problem: Problem) -> bytes:
    """The body of a refusal, in the shape of the protocol that the path belongs to."""
    if path.endswith("/invocations"):
        return mlflow.refuse(problem)
    if _ONE.fullmatch(path):
        return azure.refuse(problem)
    if path == "/models" or _TORCH.fullmatch(path):
        return torchserve.refuse(problem)
    return problem.body(not path.startswith(("/v2", "/v1/models")))
