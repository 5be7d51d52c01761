"""Open Inference Protocol v2 over gRPC: KServe's service with the repository calls closed."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio
from grpc_interceptor.server import AsyncServerInterceptor
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc
from kserve.protocol.grpc.servicer import InferenceServicer

from mlops_server.metrics import REQUESTS, SECONDS
from mlops_server.model import ServedModel

_log = logging.getLogger("mlops_server")
_STATUS: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (ModelNotFound, grpc.StatusCode.NOT_FOUND),
    (ModelNotReady, grpc.StatusCode.UNAVAILABLE),
    (NotImplementedError, grpc.StatusCode.UNIMPLEMENTED),
)


class Faults(AsyncServerInterceptor):
    """Turns exceptions into status codes, and counts inference calls by them."""

    def __init__(self, model: str) -> None:
        self._model = model

    async def intercept(
        self,
        method: Callable[[Any, Any], Awaitable[Any]],
        request_or_iterator: Any,  # noqa: ANN401 - any message of the protocol
        context: aio.ServicerContext,
        method_name: str,
    ) -> Any:  # noqa: ANN401 - as above
        """Answer, or abort with the status of the fault."""
        begun = time.perf_counter()
        code, text, answer = grpc.StatusCode.OK, "", None
        try:
            answer = await method(request_or_iterator, context)
        except Exception as error:  # noqa: BLE001 - the boundary of a call: every fault becomes a status
            code, text = _status(error)
        if method_name.endswith("/ModelInfer"):
            REQUESTS.labels(self._model, "grpc", code.name).inc()
            SECONDS.labels(self._model, "grpc").observe(time.perf_counter() - begun)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, text)
        return answer


class Servicer(InferenceServicer):
    """KServe's service for one version of one model."""

    def __init__(self, plane: DataPlane, model: ServedModel) -> None:
        super().__init__(plane, None)
        self._model = model

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: ANN401, N802
        """Predict."""
        self._require(request.model_name, request.model_version)
        return await super().ModelInfer(request, context)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:  # noqa: ANN401, N802
        """Whether this very model, and this version if one is named, is loaded."""
        self._require(request.name, request.version)
        return await super().ModelReady(request, context)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Any) -> pb.ModelMetadataResponse:  # noqa: ANN401, N802
        """Name, version and tensors."""
        self._require(request.name, request.version)
        metadata = await super().ModelMetadata(request, context)
        metadata.versions.append(self._model.version)
        return metadata

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802
        """Closed: the job says which model is served."""
        raise NotImplementedError("the repository API is closed")

    RepositoryModelUnload = RepositoryModelLoad

    def _require(self, name: str, version: str) -> None:
        if name != self._model.name or version not in ("", self._model.version):
            raise ModelNotFound(f"{name} version {version}" if version else name)


async def start(plane: DataPlane, model: ServedModel, address: str, max_request_bytes: int) -> aio.Server:
    """A started server on `address` (`host:port`); raises `RuntimeError` when the port is taken."""
    options = [("grpc.max_receive_message_length", max_request_bytes), ("grpc.so_reuseport", 0)]
    server = aio.server(interceptors=(Faults(model.name),), options=options)
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(plane, model), server)
    server.add_insecure_port(address)
    await server.start()
    return server


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
    for kind, code in _STATUS:
        if isinstance(error, kind):
            return code, str(error)
    _log.error("a call failed", exc_info=error)
    return grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}"
