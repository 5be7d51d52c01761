"""Open Inference Protocol v2 over HTTP, and `/metrics`. No repository API: what is served is the job's choice."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.protocol.dataplane import DataPlane
from prometheus_client import REGISTRY, exposition
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mlops_server.body import Refusal, TooLargeError, read_body
from mlops_server.metrics import REQUESTS, SECONDS
from mlops_server.model import ServedModel
from mlops_server.tensors import read_request, write_response

_log = logging.getLogger("mlops_server")
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (InvalidInput, 400),
    (ModelNotFound, 404),
    (ClientDisconnect, 499),  # nobody hears it; the count of requests does
    (ModelNotReady, 503),
)
UNEXPECTED = 500


class Rest:
    """The handlers of one model."""

    def __init__(self, plane: DataPlane, model: ServedModel, max_request_bytes: int) -> None:
        self._plane = plane
        self._model = model
        self._max = max_request_bytes

    def routes(self) -> list[Route]:
        """Every path there is; any other is a 404."""
        model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
        return [
            Route(f"{model}/infer", self.infer, methods=["POST"]),
            Route(f"{version}/infer", self.infer, methods=["POST"]),
            Route(f"{model}/ready", self.model_ready),
            Route(f"{version}/ready", self.model_ready),
            Route(model, self.model_metadata),
            Route(version, self.model_metadata),
            Route("/v2/models", self.models),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2", self.metadata),
            Route("/metrics", self.metrics),
        ]

    async def infer(self, request: Request) -> Response:
        """Predict; the answer is counted by its status code."""
        begun = time.perf_counter()
        try:
            response = await self._infer(request)
        except Exception as error:  # noqa: BLE001 - the boundary of a request: every fault becomes an answer
            response = failure(error)
        REQUESTS.labels(self._model.name, "rest", str(response.status_code)).inc()
        SECONDS.labels(self._model.name, "rest").observe(time.perf_counter() - begun)
        return response

    async def _infer(self, request: Request) -> Response:
        model = self._named(request)
        if not model.ready:
            raise ModelNotReady(model.name)
        headers = dict(request.headers)
        asked = read_request(await read_body(request, self._max), headers, model.name)
        answer, _ = await model(asked, headers)
        body, headers = write_response(answer)
        return Response(body, headers=headers)

    async def model_ready(self, request: Request) -> Response:
        """200 when this very model, and this version if one is named, is loaded; 503 until then."""
        model = self._named(request)
        if not model.ready:
            raise ModelNotReady(model.name)
        return _json({"name": model.name, "ready": True})

    async def model_metadata(self, request: Request) -> Response:
        """Name, version and tensors."""
        return _json(await self._plane.model_metadata(self._named(request).name))

    async def models(self, request: Request) -> Response:  # noqa: ARG002 - a handler's signature
        """The one model."""
        return _json({"models": [self._model.name]})

    async def live(self, request: Request) -> Response:  # noqa: ARG002 - a handler's signature
        """The process answers."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:  # noqa: ARG002 - a handler's signature
        """200 when the model is loaded."""
        ready = await self._plane.ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def metadata(self, request: Request) -> Response:  # noqa: ARG002 - a handler's signature
        """Which server this is."""
        return _json(self._plane.metadata())

    async def metrics(self, request: Request) -> Response:
        """Prometheus text, or OpenMetrics for whoever asks for it."""
        encode, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"content-type": content_type})

    def _named(self, request: Request) -> ServedModel:
        name, version = request.path_params["name"], request.path_params.get("version", self._model.version)
        if name != self._model.name or version != self._model.version:
            raise ModelNotFound(name if version == self._model.version else f"{name} version {version}")
        return self._model


def application(
    plane: DataPlane, model: ServedModel, lifespan: Callable[[Starlette], Any], max_request_bytes: int
) -> Starlette:
    """The ASGI application that serves `model`."""
    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        HTTPException: _http_failure,
        Exception: _failure,
        **{kind: _failure for kind, _ in _STATUS},
    }
    routes = Rest(plane, model, max_request_bytes).routes()
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


def failure(error: Exception) -> Response:
    """What a client is told: its own mistakes in full, ours by name only (the log has the rest)."""
    if isinstance(error, TooLargeError):
        return Refusal(orjson.dumps({"error": str(error)}), 413, media_type="application/json")
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return _json({"error": str(error)}, status)
    _log.error("a request failed", exc_info=error)
    return _json({"error": f"internal error: {type(error).__name__}"}, UNEXPECTED)


async def _failure(_: Request, error: Exception) -> Response:
    return failure(error)


async def _http_failure(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else UNEXPECTED
    return _json({"error": getattr(error, "detail", str(error))}, status)


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
