"""What a task wrote, from its node: the last lines, and new ones as they come."""

import base64
import json
import time
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Final, Literal

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.errors import DeployError

Stream = Literal["stdout", "stderr"]

_STREAMS: Final[tuple[Stream, ...]] = ("stdout", "stderr")
_LINE: Final = 400
"""Bytes that a line is taken to have, where lines are counted and a node counts bytes."""

_MOST: Final = 4 << 20

_WRITTEN: Final = 1.5
"""Seconds in which a node has surely written down what a task that has ended has said."""

_PAUSE: Final = 0.25


def last_lines(client: NomadClient, alloc_id: str, task: str, count: int) -> tuple[str, ...]:
    """The last lines of a task, at most `count` of each of its streams: a node keeps them apart."""
    return tuple(line for stream in _STREAMS for line in _tail(client, alloc_id, task, stream, count))


def last_words(client: NomadClient, alloc_id: str, task: str, count: int, *, fresh: bool) -> tuple[str, ...]:
    """The last `count` lines of a task that has ended: what it said on standard error comes last.

    Of one that has ended a moment ago they are read until they stay as they are: a node says that a task has ended
    before it has written down all that the task said.
    """
    words = last_lines(client, alloc_id, task, count)
    until = time.monotonic() + (_WRITTEN if fresh else 0.0)
    while time.monotonic() < until:
        time.sleep(_PAUSE)
        before, words = words, last_lines(client, alloc_id, task, count)
        if words and words == before:
            break
    return words[-count:]


def follow(client: NomadClient, alloc_id: str, task: str, count: int) -> Iterator[str]:
    """The last lines of both streams, then new ones as they come, until the node lets go of the allocation."""
    arrived: SimpleQueue[str | DeployError | None] = SimpleQueue()
    for stream in _STREAMS:
        Thread(target=_pump, args=(client, alloc_id, task, stream, count, arrived), daemon=True).start()
    ended = 0
    while ended < len(_STREAMS):
        match arrived.get():
            case None:
                ended += 1
            case DeployError() as error:
                raise error
            case line:
                yield line


def _tail(client: NomadClient, alloc_id: str, task: str, stream: Stream, count: int) -> list[str]:
    room = _room(count)
    text = client.logs(alloc_id, task, stream, room)
    return _whole(text.splitlines(), cut=len(text.encode()) >= room)[-count:] if count else []


def _pump(  # noqa: PLR0917 - what a thread is given
    client: NomadClient,
    alloc_id: str,
    task: str,
    stream: Stream,
    count: int,
    arrived: SimpleQueue[str | DeployError | None],
) -> None:
    try:
        for line in _followed(client, alloc_id, task, stream, count):
            arrived.put(line)
    except DeployError as error:
        arrived.put(error)
    arrived.put(None)


def _followed(client: NomadClient, alloc_id: str, task: str, stream: Stream, count: int) -> Iterator[str]:
    room = _room(count)
    where: dict[str, str | int | bool] = {"task": task, "type": stream, "origin": "end", "offset": room, "follow": True}
    before: list[str] | None = []
    rest, length = b"", 0

    def there_already(lines: list[str]) -> list[str]:
        return _whole(lines, cut=length >= room)[-count:] if count else []

    for data in frames(client.stream(f"client/fs/logs/{alloc_id}", where)):
        length += len(data)
        *lines, rest = (rest + data).split(b"\n")
        read = [line.decode(errors="replace") for line in lines]
        if before is None:
            yield from read
        elif data:
            before += read
        else:  # the node has nothing more to tell at the moment: so much was there before
            yield from there_already(before)
            before = None
    if before is not None:  # the allocation went before the node had said so
        yield from there_already(before)


def frames(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What each frame of a node's answer holds: JSON objects one after the other, cut anywhere; beats hold nothing."""
    decoder, text = json.JSONDecoder(), ""
    for piece in pieces:
        text = (text + piece.decode()).lstrip()  # base64 and names: a node sends ASCII
        while text:
            try:
                frame, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:].lstrip()
            yield base64.b64decode(frame.get("Data") or "")


def _room(count: int) -> int:
    return max(1, min(count * _LINE, _MOST))


def _whole(lines: list[str], *, cut: bool) -> list[str]:
    """Without the first line, where only its end is there."""
    return lines[1:] if cut and len(lines) > 1 else lines
