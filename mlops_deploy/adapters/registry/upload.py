"""One blob on its way up: a session, one streamed PATCH, and the PUT that names the digest."""

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from mlops_deploy.adapters.registry.channel import Channel
from mlops_deploy.errors import DeployError
from mlops_deploy.spec.refs import Digest

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

_CREATED, _ACCEPTED = 201, 202


class HttpUpload:
    """See `ports.Upload`. The request runs on a thread of its own, which is given one block at a time."""

    def __init__(self, channel: Channel, location: str, size: int) -> None:
        self._channel = channel
        self._location = location
        self._size = size
        self._blocks: SimpleQueue[memoryview | None] = SimpleQueue()
        self._taken: SimpleQueue[Literal["taken", "over"]] = SimpleQueue()
        self._answer: BaseHTTPResponse | None = None
        self._error: DeployError | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, block: memoryview) -> None:
        """See `ports.Upload`."""
        self._blocks.put(block)
        if self._taken.get() == "over":
            self._fail()

    def commit(self, digest: Digest) -> None:
        """See `ports.Upload`."""
        self._blocks.put(None)
        self._thread.join()
        answer = self._answer
        if answer is None or answer.status != _ACCEPTED:
            self._fail()
            return
        location = answer.headers.get("Location") or self._location
        joint = "&" if "?" in location else "?"
        done = self._channel.request("PUT", f"{location}{joint}digest={quote(str(digest), safe='')}")
        done.drain_conn()
        if done.status != _CREATED:
            raise DeployError(f"the registry `{self._channel.host}` answered {done.status} to the upload's end")

    def abort(self) -> None:
        """See `ports.Upload`."""
        self._blocks.put(None)

    def _run(self) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self._size)}
        try:
            self._answer = self._channel.request("PATCH", self._location, headers=headers, body=self._body())
            self._answer.drain_conn()
        except DeployError as error:
            self._error = error
        finally:
            self._taken.put("over")

    def _body(self) -> Iterator[memoryview]:
        while (block := self._blocks.get()) is not None:
            yield block
            self._taken.put("taken")

    def _fail(self) -> None:
        status = "nothing" if self._answer is None else self._answer.status
        raise self._error or DeployError(f"the registry `{self._channel.host}` answered {status} to the upload")
