"""What a registry answers: read within bounds, and told in one line when it is a refusal."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final, Protocol, Self

from urllib3 import HTTPHeaderDict
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from mlops_deploy.adapters.network import LINE, printable
from mlops_deploy.adapters.registry.pace import RETRIED
from mlops_deploy.adapters.registry.watch import Watch
from mlops_deploy.errors import ContentMismatchError, DeployError, UnreachableError, UnusableInputError

NETWORK: Final = (HTTPError, HTTPException, OSError)
"""What fails on the way to a registry and back."""

_SECONDS: Final = 10.0
_SAID: Final = 64 * 2**10
_PIECE: Final = 256 * 2**10
_NOT_FOUND: Final = 404

Headers = HTTPHeaderDict
"""Headers by their names, whatever their case, each with all its values."""


class Body(Protocol):
    """A body as it comes."""

    def read1(self, amount: int, /) -> bytes:
        """What is there of the next bytes, waiting for the first; nothing at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer with the beginning of its body."""

    status: int
    headers: HTTPHeaderDict
    data: bytes

    @classmethod
    def of(cls, answer: BaseHTTPResponse) -> Self:
        """Read what is worth reading, and leave the connection free for the next request, or closed."""
        try:
            data = bounded(answer, _SAID, _SECONDS, answer.shutdown)
        except NETWORK:
            data = b""
        if not answer.closed:
            answer.close()
        return cls(status=answer.status, headers=answer.headers, data=data[:_SAID])

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the errors that it names, `BLOB_UNKNOWN` for one."""
        return tuple(str(error.get("code")) for error in _errors(self.data))


def bounded(answer: Body, limit: int, seconds: float, cut: Callable[[], object]) -> bytes:
    """The body, as it is on the wire, or its first `limit` + 1 bytes.

    Raises `TimeoutError`, or what `cut` makes of it, when it has not ended after `seconds`.
    """
    until, pieces, length = time.monotonic() + seconds, [], 0
    with Watch(seconds, cut):
        while length <= limit and (piece := answer.read1(min(_PIECE, limit + 1 - length))):
            pieces.append(piece)
            length += len(piece)
            if time.monotonic() > until:
                raise TimeoutError(f"its answer did not end in {seconds:g} s")
    return b"".join(pieces)


def not_believed(host: str, what: str) -> ContentMismatchError:
    """The error for a registry that `host` names and that does `what`: says or sends what cannot be right."""
    hint = "ask whoever runs the registry, or the proxy before it; nothing that came was used"
    return ContentMismatchError(f"the registry `{host}` {what}", hint=hint)


def require_plain(answer: BaseHTTPResponse, host: str, step: str) -> None:
    """Refuse a body that was compressed for the way: nobody asked for it, and it may be a bomb."""
    if (encoding := (answer.headers.get("Content-Encoding") or "identity").strip().lower()) not in {"identity", ""}:
        answer.close()
        raise not_believed(host, f"sent {step} encoded as `{printable(encoding)[:40]}`")


def refusal(host: str, step: str, status: int, told: str) -> DeployError:
    """The error for an answer that ends a step; `told` is the registry's own words."""
    tail = f": {told}" if told else ""
    if status in RETRIED or status >= 500:  # noqa: PLR2004 - all server errors
        return UnreachableError(f"the registry `{host}` keeps answering {status} to {step}{tail}", hint=LATER)
    if status == _NOT_FOUND:
        return UnusableInputError(f"the registry `{host}` has nothing there for {step} ({status}){tail}")
    return UnusableInputError(f"the registry `{host}` refused {step} with {status}{tail}")


LATER: Final = "try again; what has arrived whole is not sent again"


def said(data: bytes) -> str:
    """What the body of a refusal says, in one printable line; empty when it says nothing."""
    if errors := _errors(data):
        return printable("; ".join(told for error in errors[:3] if (told := _told(error))))
    return printable(_text(data.decode(errors="replace")))


def _errors(data: bytes) -> list[Mapping[str, object]]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return []
    errors = found.get("errors") if isinstance(found, dict) else None
    return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def _told(error: Mapping[str, object]) -> str:
    code, message, detail = error.get("code"), error.get("message"), error.get("detail")
    told = ": ".join(str(part) for part in (code, message) if isinstance(part, str) and part)
    return f"{told} ({detail[:120]})" if isinstance(detail, str) and detail and detail != message else told


def _text(text: str) -> str:
    text = text[: 16 * LINE]
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    return title[1] if title else re.sub(r"<[^>]*>", " ", text)
