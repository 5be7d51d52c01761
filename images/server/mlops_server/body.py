"""The bodies of requests: at most so large, and a refusal that a client still hears while it sends."""

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_LINGER = 10  # seconds


class TooLargeError(Exception):
    """The body of a request has more bytes than this server takes."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the body is too large: at most {most} bytes are taken (`MAX_REQUEST_BYTES`)")


async def read_body(request: Request, most: int) -> bytes:
    """The whole body; `TooLargeError` before a byte of it is read, or as soon as it has more than `most`."""
    if int(request.headers.get("content-length", 0)) > most:
        raise TooLargeError(most)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise TooLargeError(most)
    return bytes(body)


class Refusal(Response):
    """An answer to a request that is still being sent.

    To close at once would reset the connection, and most clients would never read the answer. So what they send is
    thrown away for a while.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Answer, let the client come to its end, close."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body"})
