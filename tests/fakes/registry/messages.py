"""What was asked, what is answered, and the end of a connection."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

CODES = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "RANGE_INVALID": 416,
    "SIZE_INVALID": 400,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED": 405,
}


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request as it came, and what became of it: the oracle of the tests. Header names are lower case."""

    step: str
    method: str
    path: str
    query: dict[str, str]
    repository: str
    name: str
    """What the path ends with: a digest, a tag, the id of a session."""
    headers: dict[str, str]
    connection: int
    received: int = 0
    """Bytes of its body that came."""
    sent: int = 0
    """Bytes of the answer's body that went."""
    status: int | None = None
    """None when it was not answered."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """A status, headers and a body of `size` bytes; None: of unknown size, sent in chunks."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()
    size: int | None = 0
    early: bool = False
    """It is given before the body of the request has been read; the connection ends with it."""

    @classmethod
    def of_bytes(cls, status: int, data: bytes = b"", **headers: str) -> "Answer":
        """With a body at hand; `_` in header names stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status=status, headers=named, body=(data,) if data else (), size=len(data))


class RefusalError(Exception):
    """A request that is answered with an error of the specification."""

    def __init__(self, code: str, message: str, *, status: int | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.code = code
        self.status = status or CODES[code]
        self.headers = headers or {}

    def answer(self) -> Answer:
        """As the specification writes it."""
        errors = [{"code": self.code, "message": str(self), "detail": None}]
        answer = Answer.of_bytes(self.status, json.dumps({"errors": errors}).encode(), Content_Type="application/json")
        answer.headers |= self.headers
        return answer


class HangUpError(Exception):
    """The connection ends here, with a reset when `reset`."""

    def __init__(self, *, reset: bool = False):
        super().__init__("the connection ends here")
        self.reset = reset


class BrokenError(Exception):
    """The client's body ended before its promised end."""
