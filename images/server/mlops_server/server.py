"""One process: listen at once, load the model beside it, become ready, end on a signal."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator

import uvicorn
from grpc import aio
from starlette.applications import Starlette

from mlops_server import rpc
from mlops_server.choice import Choice
from mlops_server.ending import end_on_signals
from mlops_server.formats import ModelFileError, find
from mlops_server.hook import load_hook
from mlops_server.loading import load
from mlops_server.model import ServedModel
from mlops_server.plane import HonestDataPlane
from mlops_server.rest import application
from mlops_server.settings import Settings, SettingsError

_log = logging.getLogger("mlops_server")
_KEEP_ALIVE = 65  # longer than a proxy keeps an idle connection, so that the proxy closes first
_GRACE = 20  # seconds that requests in flight have after a signal


class Server:
    """The server of one model, from start to end."""

    def __init__(self, choice: Choice, settings: Settings) -> None:
        self._choice = choice
        self._settings = settings
        self._model = ServedModel(choice, load_hook(settings.hook))
        self._plane = HonestDataPlane(self._model)
        config = uvicorn.Config(
            application(self._plane, self._model, self._running, settings.max_request_bytes),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        self._http = uvicorn.Server(config)
        self._fault: ModelFileError | SettingsError | None = None

    def run(self) -> None:
        """Serve until a signal; raise `ModelFileError` or `SettingsError` when that cannot be."""
        listening = _listen(self._settings.host, self._settings.port)
        # uvicorn drains on these, then raises them again: what is left to do is to end well.
        end_on_signals()
        self._http.run(sockets=[listening])
        if self._fault is not None:
            raise self._fault

    @contextlib.asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        port = self._settings.grpc_port
        calls = await self._start_calls(port)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._load, args=(loop,), daemon=True, name="load").start()
        _log.info("listening on port %d (REST)%s", self._settings.port, f" and {port} (gRPC)" if port else "")
        yield
        if calls is not None:
            await calls.stop(_GRACE)

    def _give_up(self, fault: ModelFileError | SettingsError) -> None:
        self._fault = fault
        self._http.should_exit = True

    async def _start_calls(self, port: int) -> aio.Server | None:
        if not port:
            return None
        address, most = f"{self._settings.host}:{port}", self._settings.max_request_bytes
        try:
            return await rpc.start(self._plane, self._model, address, most)
        except RuntimeError:
            self._give_up(SettingsError(f"cannot listen on port {port} (gRPC)"))
            return None

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        begun = time.monotonic()
        try:
            file = find(self._choice.path)
            self._model.take(load(file))
        except BaseException as error:  # noqa: BLE001 - a thread that dies would leave a server that is never ready
            fault = error if isinstance(error, ModelFileError) else ModelFileError(f"{type(error).__name__}: {error}")
            loop.call_soon_threadsafe(self._give_up, fault)
            return
        seconds = time.monotonic() - begun
        _log.info("ready: %s, `%s` (%s) loaded in %.1f s", self._choice, file.path.name, file.format, seconds)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise SettingsError(f"cannot listen on port {port}: {error.strerror}") from error
