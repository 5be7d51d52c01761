"""The one read of a model: its bytes go to the layer's hash, the file's hash and every destination at the same time.

The layer is hashed where it is read; the file's hash and each destination have a thread of their own (hashing and
writing release the interpreter's lock) and get the blocks in order. A block's memory is used again when all of them
are done with it, so memory does not grow with the model.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from queue import SimpleQueue
from threading import Condition, Thread
from types import TracebackType
from typing import Final, Protocol, Self

from mlops_deploy.oci.inventory import SourceFile
from mlops_deploy.oci.packing import LayerPlan
from mlops_deploy.oci.reading import Reader, opened, pieces
from mlops_deploy.oci.tar import TRAILER, Entry, Folder, Link, ModelFile, Text, header, padding
from mlops_deploy.oci.types import LAYER, Descriptor
from mlops_deploy.spec.refs import Digest
from mlops_deploy.spec.requires import Sniffed

BLOCK: Final = 2**20
# Enough that a consumer which the processor leaves waiting for a moment does not stop the others.
BLOCKS: Final = 24
_PIECE: Final = 256 * 2**10
_SMALL: Final = 64 * 2**10
_PATIENCE: Final = 2.0
"""Seconds that a broken-off consumer gets to come back: a flush to a slow disk may take one, and leaves a file else."""

Hash = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSource:
    """A layer of `size` bytes that is about to come; `again` gives its bytes once more, for who has lost some."""

    size: int
    again: Callable[[], Iterator[bytes]]


class LayerSink(Protocol):
    """Takes layers one after the other. Called from one thread."""

    def begin(self, layer: LayerSource) -> None:
        """The bytes of `layer` follow."""
        ...

    def write(self, block: memoryview) -> None:
        """Take the next bytes of it; the memory is used again after the return."""
        ...

    def end(self, digest: Digest) -> None:
        """The layer is complete, and this is its digest."""
        ...


class Tap(Protocol):
    """Looks at the bytes of one file as they pass."""

    def feed(self, block: memoryview) -> None:
        """Take the next bytes; the memory is used again after the return."""
        ...

    def found(self) -> Sniffed:
        """What they say, when all have passed."""
        ...


class _Tally:
    """How many calls on its behalf are still to be made."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending = 0


class _Block(_Tally):
    """Memory that is used again when all calls that were given it have been made."""

    __slots__ = ("memory", "used")

    def __init__(self) -> None:
        super().__init__()
        self.memory = memoryview(bytearray(BLOCK))
        self.used = 0


class _Outcome:
    """What the lanes of a stream have in common: the first failure of any of them ends every wait."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._failure: BaseException | None = None

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def expect(self, tally: _Tally) -> None:
        with self._changed:
            tally.pending += 1

    def settle(self, tally: _Tally) -> None:
        """Wait until nothing is pending; raise what any call has raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure or not tally.pending)
        if self._failure:
            raise self._failure

    def done(self, tally: _Tally) -> None:
        with self._changed:
            tally.pending -= 1
            if not tally.pending:
                self._changed.notify_all()

    def fail(self, failure: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()


class _Lane:
    """One consumer: its calls happen in order, on a thread of its own."""

    def __init__(self, outcome: _Outcome) -> None:
        self._outcome = outcome
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        # A consumer may hang (a pipe that nobody reads); the program must be able to end all the same.
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def call(self, tally: _Tally, deed: Callable[..., None], *arguments: object) -> None:
        self._outcome.expect(tally)
        self._calls.put((tally, deed, arguments))

    def close(self) -> None:
        """End the thread; after a failure a call that hangs is left behind."""
        self._calls.put(None)
        self._thread.join(_PATIENCE if self._outcome.failed else None)

    def _run(self) -> None:
        while call := self._calls.get():
            tally, deed, arguments = call
            if self._outcome.failed:
                continue
            try:
                deed(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that reads
                self._outcome.fail(error)
            self._outcome.done(tally)


_Call = tuple[_Tally, Callable[..., None], tuple[object, ...]]


class ModelStream:
    """Reads files once and feeds all that need the bytes.

    `on_read` is told the model bytes of each block; `tap` gives what looks at a file's bytes, by its path, and
    `sniffed` what was seen; `blocks` is its memory in MiB. Use as a context manager: leaving it ends the threads.
    """

    def __init__(
        self,
        on_read: Callable[[int], None],
        tap: Callable[[str], Tap | None] = lambda _: None,
        blocks: int = BLOCKS,
    ) -> None:
        self._on_read = on_read
        self._tap = tap
        self._taps: dict[str, Tap] = {}
        self._sniffed: dict[str, Sniffed] = {}
        self._blocks = deque(_Block() for _ in range(blocks))
        self._lanes: dict[int, _Lane] = {}
        self._outcome = _Outcome()
        self._file_lane = _Lane(self._outcome)
        self._targets: Sequence[tuple[_Lane, LayerSink]] = ()
        self._digest = sha256()
        self._frame = _Tally()
        self._unreported = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error:
            self._outcome.fail(error)
        for lane in (self._file_lane, *self._lanes.values()):
            lane.close()

    def layer(self, plan: LayerPlan, sinks: Sequence[LayerSink]) -> tuple[Descriptor, dict[str, str]]:
        """Stream one layer to `sinks`; return its descriptor and the sha256 of each model file in it.

        Raises `UnusableInputError` when a file is not what the inventory saw, before or after it was read.
        """
        source = LayerSource(size=plan.size, again=partial(replay, plan))
        self._digest = sha256()
        self._taps.clear()
        self._sniffed.clear()
        self._targets = [(self._lane_of(sink), sink) for sink in sinks]
        for lane, sink in self._targets:
            lane.call(self._frame, sink.begin, source)
        hashes = self._entries(plan.entries)
        self._flush()
        for block in self._blocks:
            self._outcome.settle(block)
        found = Digest(self._digest.hexdigest())
        for lane, sink in self._targets:
            lane.call(self._frame, sink.end, found)
        return Descriptor(media_type=LAYER, digest=found, size=source.size), {
            path: end() for path, end in hashes.items()
        }

    @property
    def sniffed(self) -> dict[str, Sniffed]:
        """What the files of the last layer say of themselves, by their paths."""
        return self._sniffed | {path: tap.found() for path, tap in self._taps.items()}

    def finish(self) -> None:
        """Wait for the last `end` of every sink; raise what one of them raised."""
        self._outcome.settle(self._frame)

    def break_off(self, failure: BaseException) -> None:
        """Make every call that goes on, and every later one, raise `failure`; may be called from any thread."""
        self._outcome.fail(failure)

    def _entries(self, entries: Sequence[Entry]) -> dict[str, Hash]:
        hashes: dict[str, Hash] = {}
        for entry in entries:
            self._put(header(entry))
            match entry:
                case Text():
                    self._put(entry.data + padding(len(entry.data)))
                case ModelFile():
                    hashes[entry.file.path] = self._file(entry.file)
                    self._put(padding(entry.file.size))
                case Folder() | Link():
                    pass
        self._put(TRAILER)
        return hashes

    def _file(self, file: SourceFile) -> Hash:
        digest = sha256()
        takers: list[Callable[[memoryview], None]] = [digest.update]
        if (tap := self._tap(file.path)) is not None:
            takers.append(tap.feed)
        with opened(file) as reader:
            left = file.size
            while left:
                room = self._room(left)
                self._fill(room, reader)
                for take in takers:
                    # Handing a block over costs more than hashing a small file right here.
                    if file.size <= _SMALL:
                        take(room)
                    else:
                        self._file_lane.call(self._blocks[0], take, room)
                self._unreported += len(room)
                left -= len(room)
        if tap is not None and file.size <= _SMALL:
            self._sniffed[file.path] = tap.found()  # a tap of each of many small files would need much memory
        elif tap is not None:
            self._taps[file.path] = tap
        return digest.hexdigest

    def _fill(self, room: memoryview, reader: Reader) -> None:
        """Read until `room` is full, in pieces that are still in the processor's cache when they are hashed."""
        while room:
            count = reader.read_into(room[:_PIECE])
            self._digest.update(room[:count])
            room = room[count:]

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        rest = memoryview(data)
        while rest:
            room = self._room(len(rest))
            room[:] = rest[: len(room)]
            rest = rest[len(room) :]

    def _room(self, wanted: int) -> memoryview:
        """Up to `wanted` bytes of the current block, to be filled."""
        if self._blocks[0].used == BLOCK:
            self._flush()
        block = self._blocks[0]
        room = block.memory[block.used : block.used + wanted]
        block.used += len(room)
        return room

    def _flush(self) -> None:
        """Give the current block to the sinks, and wait for the memory of the next."""
        block = self._blocks[0]
        if block.used:
            part = block.memory[: block.used]
            for lane, sink in self._targets:
                lane.call(block, sink.write, part)
            self._blocks.rotate(-1)
            self._outcome.settle(self._blocks[0])
            self._blocks[0].used = 0
        self._on_read(self._unreported)
        self._unreported = 0

    def _lane_of(self, sink: LayerSink) -> _Lane:
        if id(sink) not in self._lanes:
            self._lanes[id(sink)] = _Lane(self._outcome)
        return self._lanes[id(sink)]


def replay(plan: LayerPlan) -> Iterator[bytes]:
    """The bytes of a layer, read anew; raises as `ModelStream.layer` does."""
    for entry in plan.entries:
        yield header(entry)
        match entry:
            case Text():
                yield entry.data + padding(len(entry.data))
            case ModelFile():
                yield from pieces(entry.file)
                yield padding(entry.file.size)
            case Folder() | Link():
                pass
    yield TRAILER
