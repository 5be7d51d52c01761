"""The client of the keeper, over any stream; every wait has an end. The protocol is in docs/keeper.md."""

import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn, Protocol, TypeVar

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.release.codec import decode
from mlops_deploy.release.effects import Answered, Committed, Lines, Refused, Stored, Written
from mlops_deploy.release.state import Route, RouterView, Slot
from mlops_deploy.spec.deploy import JsonValue

T = TypeVar("T")

VERSION: Final = 1

KEEPER: Final = ("python3", "-I", "-S", "/opt/mlops/keeper", "serve")
"""The keeper in the image of the router."""

PATIENCE: Final = 10.0
"""Seconds for one answer: the keeper waits for its lock for five, and for the proxy for two."""

_RELOAD: Final = 30.0
"""Seconds for a new configuration: checked, taken over, and if need be taken back."""

_LOOKS: Final = frozenset({"observed", "ask", "get", "keys", "journals", "read"})
"""The requests that change nothing, so that sending one again is never wrong."""

TRIES: Final = 5
"""How often a program is begun that seems never to have begun: on a busy node that is one in a hundred, in bursts."""

_LIMIT: Final = 64 << 20
_HINT: Final = "see `mlops-deploy status`, then run this again"


class Stream(Protocol):
    """A keeper's standard input and output."""

    def send(self, data: bytes, seconds: float) -> None:
        """Send all of `data`; `OSError` when it cannot be sent in time."""
        ...

    def receive(self, seconds: float) -> bytes:
        """What has come, empty at the end of the stream; `OSError` when nothing comes in time."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class _WordlessError(ConnectionError):
    """The stream has ended, and nothing has come."""


class KeeperClient:
    """A keeper at the other end of what `connect` opens; see `ports.Keeper`. One caller at a time.

    An answer may take `patience` seconds; more, where the request itself says how long it may last.
    """

    def __init__(self, connect: Callable[[], Stream], patience: float = PATIENCE) -> None:
        self._connect = connect
        self._patience = patience
        self._stream: Stream | None = None
        self._id = 0

    def observed(self) -> RouterView:
        """See `ports.Keeper`."""
        return _understood(RouterView, self._done("observed"))

    def commit(self, route: Route, generation: int, token: int) -> Committed | Refused:
        """See `ports.Keeper`."""
        fields: dict[str, JsonValue] = {"share_b": route.share_b, "closed": route.closed}
        return self._asked(Committed, "commit", route=fields, generation=generation, token=token)

    def ask(self, slot: Slot | None, path: str, body: JsonValue, timeout: float) -> Answered:
        """See `ports.Keeper`."""
        bound = timeout + self._patience
        return _understood(Answered, self._done("ask", bound, slot=slot, path=path, body=body, timeout=timeout))

    def get(self, key: str) -> Stored:
        """See `ports.Keeper`."""
        return _understood(Stored, self._done("get", key=key))

    def keys(self, prefix: str) -> tuple[str, ...]:
        """See `ports.Keeper`."""
        return _names(self._done("keys", prefix=prefix))

    def put(self, key: str, value: JsonValue, index: int, token: int) -> Written | Refused:
        """See `ports.Keeper`."""
        return self._asked(Written, "put", key=key, value=value, index=index, token=token)

    def append(self, journal: str, line: str, position: int, token: int) -> Written | Refused:
        """See `ports.Keeper`."""
        return self._asked(Written, "append", journal=journal, line=line, position=position, token=token)

    def journals(self) -> tuple[str, ...]:
        """See `ports.Keeper`."""
        return _names(self._done("journals"))

    def read(self, journal: str) -> Lines:
        """See `ports.Keeper`."""
        return _understood(Lines, self._done("read", journal=journal))

    def configure(self, config: str) -> bool:
        """See `ports.Keeper`."""
        match self._done("configure", _RELOAD, config=config):
            case {"changed": bool(changed)}:
                return changed
            case _:
                raise _strange("no `changed`")

    def close(self) -> None:
        """End the stream; a further call opens a new one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _asked(self, kind: type[T], op: str, **fields: JsonValue) -> T | Refused:
        answer = self._call(op, self._patience, fields)
        if "refused" in answer:
            return _understood(Refused, answer["refused"])
        return _understood(kind, answer.get("ok"))

    def _done(self, op: str, seconds: float = 0.0, **fields: JsonValue) -> JsonValue:
        return self._call(op, max(seconds, self._patience), fields).get("ok")

    def _call(self, op: str, seconds: float, fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Send a request and wait for its answer; whatever goes wrong meanwhile, the stream is not used again.

        One that changes nothing is sent again, over a new stream, when the stream has ended without a word: who carries
        it may have taken a keeper that was about to start for one that had ended, as Nomad's Docker driver does.
        """
        self._id += 1
        request = json.dumps({"keeper": VERSION, "id": self._id, "op": op, **fields}).encode() + b"\n"
        until = time.monotonic() + seconds
        try:
            answer = _answer(self._heard(request, until, TRIES if op in _LOOKS else 1), self._id)
        except OSError as error:
            self.close()
            raise UnreachableError(f"the router's keeper does not answer: {_reason(error)}", hint=_HINT) from error
        except BaseException:
            self.close()
            raise
        if "error" in answer:
            _raise(answer["error"])
        return answer

    def _heard(self, request: bytes, until: float, tries: int) -> bytes:
        """The line that answers `request`, which is sent at most so many times."""
        while True:
            stream = self._open()
            stream.send(request, max(until - time.monotonic(), 0.0))
            try:
                return _line(stream, until)
            except _WordlessError:
                tries -= 1
                if not tries:
                    raise
                self.close()

    def _open(self) -> Stream:
        """The stream, a new one where something came or ended unasked."""
        if self._stream is not None and not _is_quiet(self._stream):
            self.close()
        if self._stream is None:
            self._stream = self._connect()
        return self._stream


class KeeperStream(KeeperClient):
    """A keeper that runs as our own child; `env` is its whole environment."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        super().__init__(lambda: _Child(argv, env))


class _Child:
    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._conversation = LocalRunner().converse(argv, env=env)

    def send(self, data: bytes, seconds: float) -> None:
        self._conversation.socket.settimeout(seconds)
        self._conversation.socket.sendall(data)

    def receive(self, seconds: float) -> bytes:
        self._conversation.socket.settimeout(seconds)
        return self._conversation.socket.recv(1 << 16)

    def close(self) -> None:
        self._conversation.end()


def _is_quiet(stream: Stream) -> bool:
    try:
        stream.receive(0)
    except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False


def _line(stream: Stream, until: float) -> bytes:
    line = bytearray()
    while b"\n" not in line:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("its time is over")
        part = stream.receive(left)
        if not part and not line:
            raise _WordlessError("it has ended")
        if not part:
            raise ConnectionError(line.decode(errors="replace").strip()[-300:] or "it has ended")
        line += part
        if len(line) > _LIMIT:
            raise ConnectionError("its answer has no end")
    return bytes(line)


def _answer(line: bytes, number: int) -> dict[str, JsonValue]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _strange(line[:200].decode(errors="replace").strip())
    if answer.get("id") != number and "error" not in answer:
        raise _strange(f"an answer to request {answer.get('id')!r}, not {number}")
    return answer


def _raise(error: JsonValue) -> NoReturn:
    match error:
        case {"kind": "silent", "message": str(message)}:
            raise UnreachableError(message)
        case {"kind": "version", "message": str(message)}:
            raise UnusableInputError(
                f"{message}, this mlops-deploy version {VERSION}", hint="use the mlops-deploy that made the router"
            )
        case {"kind": str(), "message": str(message), "lines": list(lines)}:
            raise DeployError(f"router: {message}", detail=tuple(str(line) for line in lines))
        case _:
            raise _strange(str(error)[:200])


def _understood(kind: type[T], data: JsonValue) -> T:
    try:
        return decode(kind, data)
    except UnusableInputError as wrong:
        raise _strange(wrong.message) from wrong


def _names(data: JsonValue) -> tuple[str, ...]:
    match data:
        case {"names": list(names)}:
            return tuple(str(name) for name in names)
        case _:
            raise _strange("no `names`")


def _strange(what: str) -> UnreachableError:
    return UnreachableError(f"the router's keeper cannot be understood: {what}", hint=_HINT)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
