"""Why something on the network failed, told in words of our own: a library's may hold what is secret."""

import re
import ssl
from collections.abc import Iterable
from typing import Final

from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ReadTimeoutError

LINE: Final = 300
"""Characters of what somebody else says."""


def never_connected(error: BaseException) -> bool:
    """Whether nobody listens there, or nobody knows where that is."""
    return any(isinstance(one, NewConnectionError) for one in _causes(error))


def reason(error: BaseException) -> str:
    """Why a connection failed, in a few words that hold nothing of the request."""
    return next((found for one in _causes(error) if (found := _reason(one))), "the connection broke off")


def _reason(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case NameResolutionError():
            return "its name is not known"
        case NewConnectionError() | ssl.SSLEOFError():
            return None
        case ConnectTimeoutError() | ReadTimeoutError():
            return "no answer in time"
        case OSError() if error.strerror or isinstance(error, TimeoutError):
            return printable((error.strerror or str(error)).lower()) or "no answer in time"
        case _:
            return None


def _causes(error: BaseException) -> Iterable[BaseException]:
    """The error and what it was made of, outermost first, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        parts = (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__)
        waiting += [part for part in parts if isinstance(part, BaseException)]


def printable(text: str) -> str:
    """`text` in one line of bounded length; queries of URLs may grant access, so they go."""
    line = re.sub(r"(\w+://[^\s?\"'<>]*)\?[^\s\"'<>]*", r"\1?…", text[: 16 * LINE])
    line = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    return line if len(line) <= LINE else line[: LINE - 1] + "…"
