"""A real router on this machine for tests: HAProxy and keepers as processes, and servers that fail as they are told."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mlops_deploy.adapters.keeper import KeeperStream
from mlops_deploy.adapters.processes.identity import identify
from mlops_deploy.render.router import RouterSettings, render_router
from tests.fakes.ports import free_port

KEEPER = Path(__file__).parents[2] / "images" / "router" / "keeper"
PATHS = ("/v2", "/v2/models/m/infer", "/v2/models/m/versions/{id12}/infer")


def keeper_argv(verb):
    return (sys.executable, "-I", "-S", str(KEEPER), verb)


def until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not (seen := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return seen


def _below(pid):
    """The processes that `pid` has started, and those that these have."""
    with suppress(OSError):
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [*children, *(one for child in children for one in _below(child))]
    return []


class Router:
    """The router of two servers on this machine; `start` it, and let it `end`."""

    def __init__(self, a, b, **settings):
        self.root = Path(tempfile.mkdtemp(prefix="rtr-"))
        self.port = free_port()
        chosen = {"check_path": "/ready", "paths": PATHS, **settings}
        self.settings = RouterSettings(
            service="svc",
            listen=f"127.0.0.1:{self.port}",
            a=f"127.0.0.1:{a}",
            b=f"127.0.0.1:{b}",
            by_name=False,
            **chosen,
        )
        self.env = {"PATH": os.environ["PATH"], "STATE": str(self.root / "state"), "RUN": str(self.root / "run")}
        self.process = None
        self.keepers = []

    def start(self):
        log = (self.root / "log").open("ab")
        env = self.env | {"ROUTER_CONFIG": render_router(self.settings)}
        with log:
            self.process = subprocess.Popen(
                keeper_argv("init"), env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        keeper = self.keeper()
        until(lambda: self.process.poll() is not None or self.is_there(keeper))
        assert self.process.poll() is None, self.log()
        return keeper

    def is_there(self, keeper):
        return (self.root / "state" / "haproxy.cfg").exists() and keeper.observed().applied is not None

    def keeper(self):
        keeper = KeeperStream(keeper_argv("serve"), self.env)
        self.keepers.append(keeper)
        return keeper

    def lease(self, keeper, token=1, ttl=600.0):
        index = keeper.get("lease").index
        return keeper.put("lease", {"token": token, "holder": "test", "ttl": ttl}, index, 0)

    def log(self):
        return (self.root / "log").read_text(errors="replace")

    def kill(self):
        """Kill the first process, and wait until those that end by that have ended: HAProxy keeps its port so long."""
        others = _below(self.process.pid)
        self.process.kill()
        self.process.wait()
        until(lambda: not any(identify(pid) for pid in others))

    def end(self):
        for keeper in self.keepers:
            keeper.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.root)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def answer(self):
        server = self.server
        if self.path == "/ready":
            ready = server.ready and not server.lapses
            server.lapses = max(0, server.lapses - 1)
            return self.send(200 if ready else 503, {})
        server.seen.append((self.path, dict(self.headers)))
        match server.fault:
            case "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return None
            case "cut":
                self.send(200, {"some": "x" * 100}, length=500)
                self.close_connection = True
                self.wfile.flush()
                return self.connection.shutdown(socket.SHUT_RDWR)
            case "slow":
                server.gate.wait(30)
                return self.send(200, {"version": server.version})
            case int(status):
                return self.send(status, {"error": "told so"})
            case _:
                return self.send(200, {"version": server.version})

    def send(self, status, document, length=None):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, version, port=0):
        # None of the ports that connections get: one of them may have it when a server is to come back.
        super().__init__(("127.0.0.1", port or free_port()), Handler)
        self.version, self.ready, self.fault, self.seen, self.gate = version, True, None, [], threading.Event()
        self.lapses = 0  # so many checks fail before one goes well again
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    def handle_error(self, request, client_address):
        pass

    def end(self):
        self.gate.set()
        self.shutdown()
        self.server_close()
