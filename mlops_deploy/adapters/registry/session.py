"""One upload session of a registry: opened by a POST, fed by PATCHes, closed by the PUT that names the digest."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, Self
from urllib.parse import quote

from urllib3 import HTTPHeaderDict

from mlops_deploy.adapters.registry.answers import LATER, NETWORK, Reply, not_believed
from mlops_deploy.adapters.registry.modes import UNSIZED, Mode
from mlops_deploy.adapters.registry.pace import RETRIED, Patience, retry_after
from mlops_deploy.adapters.registry.place import BreakError, Place, require_digest
from mlops_deploy.adapters.registry.streaming import AnsweredError, Outgoing
from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.spec.refs import Digest

_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _NOT_FOUND = 200, 201, 202, 204, 404
_TAKEN: Final = frozenset({_CREATED, _ACCEPTED, _NO_CONTENT})
_UNAUTHORIZED: Final = 401
_DENIED: Final = frozenset({_UNAUTHORIZED, 403})
_ALIVE: Final = frozenset({_OK, _ACCEPTED, _NO_CONTENT})
_WORTH: Final = 2**20
"""Bytes that are worth asking for."""
_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d{1,18})")
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class ChangedError(Exception):
    """The blob's source gave other bytes, or another number of them, than before."""


class Session:
    """`offset` is the blob's next byte that it wants. Raises `BreakError` when it is of no use any more."""

    def __init__(self, place: Place, location: str, size: int, mode: Mode) -> None:
        self.offset = 0
        self.mode = mode
        self._place = place
        self._channel = place.channel
        self._location = location
        self._size = size
        self._least = 0
        self._left = 0
        self._outgoing: Outgoing | None = None

    @classmethod
    def begin(cls, place: Place, size: int, mode: Mode, patience: Patience) -> Self:
        """Ask for a session; the right to send is had when it is there."""
        channel, url = place.channel, f"{place.base}/blobs/uploads/"
        answer = channel.request(
            "POST", url, step=place.step, scope=place.scope, expect={_ACCEPTED}, body=b"", patience=patience
        )
        Reply.of(answer)
        if (location := answer.headers.get("Location")) is None:
            raise not_believed(channel.host, f"does not say where {place.step} goes")
        session = cls(place, channel.next(location, url), size, mode)
        session._limit(answer.headers)
        return session

    def send(self, block: memoryview) -> None:
        """Send the next bytes, in as many requests as the mode wants."""
        while block:
            outgoing = self._outgoing or self._open()
            part = block[: self._left]
            try:
                outgoing.send(part)
            except AnsweredError:
                self._answered(early=True)
                return
            except NETWORK as error:
                self.close()
                raise self._broken(error) from error
            block = block[len(part) :]
            self.offset += len(part)
            self._left -= len(part)
            if not self._left:
                self._answered(early=False)

    def complete(self, digest: Digest, patience: Patience) -> None:
        """Close the session; returns when the registry has the blob."""
        may_ask_again = True
        while True:
            try:
                reply = self._put(digest)
            except NETWORK as error:
                if self._arrived(digest):
                    return
                if not patience.again():
                    raise self._broken(error) from error
                continue
            if self._settled(reply, digest):
                return
            if may_ask_again and self._channel.challenged(self._location, reply, self._place.scope):
                may_ask_again = False
            elif reply.status not in RETRIED or not patience.again(retry_after(reply.headers.get("Retry-After"))):
                raise self._refused(reply)

    def complete_whole(self, digest: Digest, blob: Iterable[bytes]) -> None:
        """Send all of the blob in the request that closes the session."""
        self._left = self._size
        try:
            outgoing = self._outgoing = self._request("PUT", self._closing(digest), {"Content-Length": str(self._size)})
            self._pour(outgoing, blob)
            reply = outgoing.answer()
        except NETWORK as error:
            if self._arrived(digest):
                return
            raise self._broken(error) from error
        finally:
            self.close()
        self._channel.heard(reply.status)
        if not self._settled(reply, digest):
            raise self._refused(reply)

    def found_again(self) -> bool:
        """Ask the registry how far it got, when a request broke off; whether the session can go on from there."""
        asked, patience = self._location, Patience(self._channel.pace)
        try:
            answer = self._channel.request(
                "GET", asked, step=self._place.step, scope=self._place.scope, expect=_ALIVE, patience=patience
            )
            Reply.of(answer)
            self._move(answer.headers.get("Location"))
        except DeployError:
            return False
        told = _RANGE.fullmatch(answer.headers.get("Range") or "")
        self.offset = int(told[1]) + 1 if told else 0
        return _WORTH <= self.offset <= self._size

    def cancel(self, patience: Patience) -> None:
        """Tell the registry that it may forget what it got; never raises."""
        with suppress(DeployError):
            answer = self._channel.request(
                "DELETE",
                self._location,
                step=self._place.step,
                scope=self._place.scope,
                expect=_ALIVE | {_NOT_FOUND},
                silence=self._channel.pace.farewell,
                patience=patience,
            )
            Reply.of(answer)

    def cut(self) -> None:
        """End what another thread waits for in this session."""
        if (outgoing := self._outgoing) is not None:
            outgoing.cut()

    def close(self) -> None:
        """Drop the open request."""
        if (outgoing := self._outgoing) is not None:
            outgoing.close()
            self._outgoing = None

    def _open(self) -> Outgoing:
        rest = self._size - self.offset
        self._left = min(max(self.mode.chunk, self._least), rest) if self.mode.chunk else rest
        headers = {"Transfer-Encoding": "chunked"} if self.mode == UNSIZED else {"Content-Length": str(self._left)}
        if self.mode.chunk or self.offset:
            headers["Content-Range"] = f"{self.offset}-{self.offset + self._left - 1}"
        try:
            self._outgoing = self._request("PATCH", self._location, headers)
        except NETWORK as error:
            raise self._broken(error) from error
        return self._outgoing

    def _request(self, method: str, url: str, headers: Mapping[str, str]) -> Outgoing:
        return self._channel.outgoing(method, url, {**_OCTETS, **headers}, self._place.scope)

    def _pour(self, outgoing: Outgoing, blob: Iterable[bytes]) -> None:
        for piece in blob:
            self._left -= len(piece)
            if self._left < 0:
                break
            try:
                outgoing.send(memoryview(piece))
            except AnsweredError:
                return
        if self._left:
            raise ChangedError

    def _answered(self, *, early: bool) -> None:
        if (outgoing := self._outgoing) is None:
            return
        try:
            reply = outgoing.answer()
        except NETWORK as error:
            raise self._broken(error) from error
        finally:
            self.close()
        self._channel.heard(reply.status)
        if early or reply.status not in _TAKEN:
            raise self._refused(reply)
        self._limit(reply.headers)
        self._move(reply.headers.get("Location"))
        told = _RANGE.fullmatch((reply.headers.get("Range") or "").strip())
        if told and int(told[1]) + 1 != self.offset:
            raise BreakError(self._channel.refusal(self._place.step, reply, self._place.scope), reply)

    def _put(self, digest: Digest) -> Reply:
        outgoing = self._outgoing = self._request("PUT", self._closing(digest), {"Content-Length": "0"})
        try:
            reply = outgoing.answer()
        finally:
            self.close()
        self._channel.heard(reply.status)
        return reply

    def _closing(self, digest: Digest) -> str:
        joint = "&" if "?" in self._location else "?"
        return f"{self._location}{joint}digest={quote(str(digest), safe='')}"

    def _settled(self, reply: Reply, digest: Digest) -> bool:
        """Whether the blob is there; a registry may have taken it although it says that something went wrong."""
        if reply.status == _CREATED:
            require_digest(reply.headers.get("Docker-Content-Digest"), digest, self._channel.host, self._place.step)
            return True
        return reply.status not in _DENIED and "DIGEST_INVALID" not in reply.codes and self._arrived(digest)

    def _arrived(self, digest: Digest) -> bool:
        with suppress(DeployError):
            return self._place.has(digest, self._size, Patience(self._channel.pace, tries=3))
        return False

    def _move(self, location: str | None) -> None:
        if location is not None:
            self._location = self._channel.next(location, self._location)

    def _limit(self, headers: HTTPHeaderDict) -> None:
        """Take note of the sizes of chunks that the registry asks for."""
        most, least = (_number(headers.get(f"OCI-Chunk-{what}-Length")) for what in ("Max", "Min"))
        self._least = least or self._least
        if most and most < self._size and (not self.mode.chunk or most < self.mode.chunk):
            self.mode = Mode(kind="chunked", chunk=most)

    def _broken(self, error: Exception) -> BreakError:
        return BreakError(self._channel.unreachable(self._place.step, error))

    def _refused(self, reply: Reply) -> BreakError:
        again = self._channel.challenged(self._location, reply, self._place.scope)
        error = self._channel.refusal(self._place.step, reply, self._place.scope)
        if reply.status in _DENIED and not again:
            raise error
        if reply.status == _NOT_FOUND:
            error = UnreachableError(
                f"the registry `{self._channel.host}` loses {self._place.step} on its way", hint=LATER
            )
        return BreakError(error, reply, at_once=again)


def _number(header: str | None) -> int:
    text = (header or "").strip()
    return int(text[:18]) if text.isascii() and text.isdigit() else 0
