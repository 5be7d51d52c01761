"""The HTTP side: paths, rights, blocking queries, and the headers that clients read."""

import json
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.nomad_api import jobs, variables
from tests.fakes.nomad_api.state import Grant, Refusal, State, new_id

_SECONDS = {"s": 1.0, "m": 60.0, "ms": 0.001}


class NomadApi:
    """A cluster behind `address`, with `tls` over HTTPS. Hold `state.changed` to look at `state` or to change it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.state = State()
        self.asked: list[tuple[str, str]] = []
        self.connections: set[socket.socket] = set()
        api = self

        class Handler(_Handler):
            cluster = api

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def address(self) -> str:
        """Its HTTP API."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["NomadApi"]:
        """Meanwhile it answers."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
            for one in tuple(self.connections):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def ask_for_tokens(self) -> str:
        """From now on who has no token may do nothing; a token that may do everything."""
        everything = Grant(
            namespace="*", capabilities=frozenset(_EVERYTHING), variables={"*": frozenset(_ON_VARIABLES)}
        )
        with self.state.changed:
            self.state.tokens = {}
        return self.token(everything)

    def token(self, *grants: Grant) -> str:
        """A new token with these rights."""
        secret = new_id()
        with self.state.changed:
            assert self.state.tokens is not None
            self.state.tokens[secret] = grants
        return secret

    def amend(self, alloc_id: str, **fields: Any) -> None:
        """What becomes of an allocation: `ClientStatus`, `TaskStates` and the like."""
        with self.state.changed:
            self.state.allocations[alloc_id] |= fields
            self.state.touch("allocations")

    def write_log(self, alloc_id: str, task: str, text: str, stream: str = "stdout") -> None:
        """What a task has written."""
        with self.state.changed:
            key = (alloc_id, task, stream)
            self.state.logs[key] = self.state.logs.get(key, b"") + text.encode()


_EVERYTHING = ("read-job", "submit-job", "list-jobs", "read-logs", "alloc-exec", "parse-job", "agent:read")
_ON_VARIABLES = ("read", "write", "list", "destroy")


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: who does not trust us hangs up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Request:
    """One request: its parts, and what may be done with it."""

    def __init__(self, state: State, url: str, secret: str, body: Any) -> None:
        parts = urlsplit(url)
        self.state = state
        self.path = unquote(parts.path).removeprefix("/v1/")
        self.params = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.namespace = self.params.get("namespace", "default")
        self.body = body
        self._secret = secret

    def needs(self, capability: str | None, namespace: str | None = None) -> None:
        """Refuse who may not."""
        where = namespace or self.namespace
        if self.state.tokens is not None and not any(one.allows(where, capability) for one in self._grants()):
            raise Refusal(403, "Permission denied")

    def needs_variable(self, path: str, capability: str) -> None:
        """The same for a Variable."""
        if not self.may(path, capability):
            raise Refusal(403, "Permission denied")

    def may(self, path: str, capability: str) -> bool:
        """Whether who asks may do this with a Variable."""
        return self.state.tokens is None or any(
            one.allows_variable(self.namespace, path, capability) for one in self._grants()
        )

    def knows_token(self) -> bool:
        """Whether the token is one."""
        return self.state.tokens is None or not self._secret or self._secret in self.state.tokens

    def check(self) -> int | None:
        """The index of a check-and-set."""
        return int(self.params["cas"]) if "cas" in self.params else None

    def block(self, table: str) -> int:
        """Wait as a blocking query does; the index of the answer."""
        after = int(self.params.get("index", 0))
        if after:
            number, unit = re.fullmatch(r"(\d+)([a-z]+)", self.params.get("wait", "300s")).groups()  # type: ignore[union-attr]
            self.state.wait(table, after, float(number) * _SECONDS[unit])
        return self.state.index_of(table)

    def _grants(self) -> tuple[Grant, ...]:
        if not self.knows_token():
            raise Refusal(403, "Permission denied")
        return (self.state.tokens or {}).get(self._secret, ())


Answer = tuple[Any, int]
Deed = Callable[..., Answer]


def _leader(request: _Request) -> Answer:
    return "127.0.0.1:4647", 0


def _self(request: _Request) -> Answer:
    request.needs("agent:read")
    return {"member": {"Tags": {"build": request.state.version}}}, 0


def _token(request: _Request) -> Answer:
    if not request.knows_token():
        raise Refusal(403, "Permission denied")
    return {"AccessorID": new_id()}, 0


def _namespace(request: _Request, name: str) -> Answer:
    request.needs(None, name)
    if name not in request.state.namespaces:
        raise Refusal(404, "Namespace not found")
    return {"Name": name}, request.state.index


def _register(request: _Request) -> Answer:
    request.needs("submit-job")
    return jobs.register(request.state, request.namespace, request.body), request.state.index


def _job(request: _Request, job_id: str) -> Answer:
    request.needs("read-job")
    index = request.block("jobs")
    return jobs.shown(_found(request.state.jobs.get((request.namespace, job_id)), "job not found")), index


def _deregister(request: _Request, job_id: str) -> Answer:
    request.needs("submit-job")
    purge = request.params.get("purge", "").lower() in {"1", "true"}
    return jobs.deregister(request.state, request.namespace, job_id, purge=purge), request.state.index


def _plan(request: _Request, job_id: str) -> Answer:
    request.needs("submit-job")
    return jobs.plan(request.state, request.namespace, request.body["Job"]), request.state.index


def _allocations(request: _Request, job_id: str) -> Answer:
    request.needs("read-job")
    index = request.block("allocations")
    return jobs.allocations(request.state, request.namespace, job_id), index


def _deployment_of(request: _Request, job_id: str) -> Answer:
    request.needs("read-job")
    index = request.block("deployments")
    here = (request.namespace, job_id)
    found = [one for one in request.state.deployments.values() if (one["Namespace"], one["JobID"]) == here]
    return found[-1] if found and here in request.state.jobs else None, index


def _allocation(request: _Request, alloc_id: str) -> Answer:
    request.needs("read-job")
    index = request.block("allocations")
    return _found(request.state.allocations.get(alloc_id), "alloc not found"), index


def _evaluation(request: _Request, eval_id: str) -> Answer:
    request.needs("read-job")
    return _found(request.state.evaluations.get(eval_id), "eval not found"), request.block("evaluations")


def _decide(request: _Request, verb: str, deployment_id: str) -> Answer:
    found = request.state.deployments.get(deployment_id)
    if found is None:
        raise Refusal(500, "deployment not found")
    request.needs("submit-job")
    if found["Status"] in {"failed", "successful", "cancelled"}:
        raise Refusal(500, f"can't {verb} terminal deployment")
    if verb == "fail":
        found |= {"Status": "failed", "StatusDescription": "Deployment marked as failed"}
    else:
        found["TaskGroups"] = {name: one | {"Promoted": True} for name, one in found["TaskGroups"].items()}
    return {"DeploymentModifyIndex": request.state.touch("deployments")}, request.state.index


def _logs(request: _Request, alloc_id: str) -> Answer:
    allocation = _found(request.state.allocations.get(alloc_id), f'Unknown allocation "{alloc_id}"')
    request.needs("read-logs", allocation["Namespace"])
    if request.params["task"] not in allocation["TaskStates"]:
        raise Refusal(400, f'unknown task name "{request.params["task"]}"')
    key = (alloc_id, request.params["task"], request.params["type"])
    offset, whole = int(request.params.get("offset", 0)), request.state.logs.get(key, b"")
    if request.params.get("origin") == "end":
        return whole[max(0, len(whole) - offset) :], 0
    return whole[offset:], 0


def _read_variable(request: _Request, path: str) -> Answer:
    request.needs_variable(path, "read")
    index = request.block("variables")
    try:
        return variables.read(request.state, request.namespace, path), index
    except Refusal as absent:
        raise Refusal(absent.status, (absent.body, index)) from None


def _write_variable(request: _Request, path: str) -> Answer:
    request.needs_variable(path, "write")
    written = variables.write(request.state, request.namespace, path, request.body, request.check())
    return written, written["ModifyIndex"]


def _delete_variable(request: _Request, path: str) -> Answer:
    request.needs_variable(path, "destroy")
    variables.delete(request.state, request.namespace, path, request.check())
    raise Refusal(204)


def _variables(request: _Request) -> Answer:
    index = request.block("variables")
    found = variables.listed(request.state, request.namespace, request.params.get("prefix", ""))
    return [one for one in found if request.may(one["Path"], "list")], index


def _service(request: _Request, name: str) -> Answer:
    request.needs("read-job")
    index = request.block("services")
    return request.state.services.get((request.namespace, name), []), index


def _found(thing: Any, otherwise: str) -> Any:
    if thing is None:
        raise Refusal(404, otherwise)
    return thing


_ROUTES: tuple[tuple[str, str, Deed], ...] = (
    ("GET", r"status/leader", _leader),
    ("GET", r"agent/self", _self),
    ("GET", r"acl/token/self", _token),
    ("GET", r"namespace/([^/]+)", _namespace),
    ("POST", r"jobs", _register),
    ("GET", r"job/([^/]+)", _job),
    ("DELETE", r"job/([^/]+)", _deregister),
    ("POST", r"job/([^/]+)/plan", _plan),
    ("GET", r"job/([^/]+)/allocations", _allocations),
    ("GET", r"job/([^/]+)/deployment", _deployment_of),
    ("GET", r"allocation/([^/]+)", _allocation),
    ("GET", r"evaluation/([^/]+)", _evaluation),
    ("POST", r"deployment/(promote|fail)/([^/]+)", _decide),
    ("GET", r"client/fs/logs/([^/]+)", _logs),
    ("GET", r"var/(.+)", _read_variable),
    ("PUT", r"var/(.+)", _write_variable),
    ("DELETE", r"var/(.+)", _delete_variable),
    ("GET", r"vars", _variables),
    ("GET", r"service/([^/]+)", _service),
)


class _Handler(BaseHTTPRequestHandler):
    cluster: NomadApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.cluster.connections.add(self.connection)

    def finish(self) -> None:
        self.cluster.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  # names of the standard library

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at `asked`."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        state = self.cluster.state
        request = _Request(state, self.path, self.headers.get("X-Nomad-Token", ""), body)
        self.cluster.asked.append((self.command, self.path))
        with state.changed:
            try:
                found, index = _deed(self.command, request)
                status = 200
                data = found if isinstance(found, bytes) else json.dumps(found).encode()
                kind = "text/plain" if isinstance(found, bytes) else "application/json"
            except Refusal as refused:
                status, kind = refused.status, "text/plain; charset=utf-8"
                said, index = refused.body if isinstance(refused.body, tuple) else (refused.body, 0)
                data = (said if isinstance(said, str) else json.dumps(said)).encode()
        self._send(status, kind, index, data)

    def _send(self, status: int, kind: str, index: int, data: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Nomad-Index", str(index))
        self.end_headers()
        if status != 204:
            self.wfile.write(data)


def _deed(method: str, request: _Request) -> Answer:
    for one, pattern, deed in _ROUTES:
        if one == method and (found := re.fullmatch(pattern, request.path)):
            return deed(request, *found.groups())
    raise Refusal(404, "")
