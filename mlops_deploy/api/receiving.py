"""Fetch the files of a model into a stage: layers side by side, each byte hashed once, while it is written."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from itertools import dropwhile
from threading import Event, Lock, Thread
from typing import Final

from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.layer_stream import Layers, LayerStream
from mlops_deploy.oci.metadata import FileSum
from mlops_deploy.oci.names import shown
from mlops_deploy.oci.places import Place, Places, places
from mlops_deploy.oci.tar import padding
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.oci.untar import Kind, Member, TarDamageError, TarReader
from mlops_deploy.store.stage import Stage, StageFile

_ABREAST: Final = 4
_TICK: Final = 0.1
_GRACE: Final = 2.0
_TOP: Final = "models/"


class Receiver:
    """One copy of a model on its way; `pulled` bytes came from the layers, `adopted` ones were there already."""

    def __init__(self, layers: Layers, files: Sequence[FileSum], stage: Stage) -> None:
        self._layers = layers
        self._stage = stage
        self._files = files
        self._missing = {file.path: file for file in files}
        self._lock = Lock()
        self._stopped = Event()
        self._failure: BaseException | None = None
        self._places: Places = {}
        self._waiting: list[Descriptor] = []
        self.pulled = self.adopted = 0

    def receive(self, layers: Sequence[Descriptor], tick: Callable[[int], None]) -> None:
        """Fetch all files; `tick` hears now and then how many bytes are there.

        Raises `ContentMismatchError` for layers that do not give these very files.
        """
        if self._stage.kept:
            self._places = places(self._files, layers)
        self._waiting = sorted(layers, key=lambda layer: layer.size)
        threads = [Thread(target=self._work, daemon=True) for _ in layers[:_ABREAST]]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TICK)
                    tick(self.pulled + self.adopted)
        finally:
            self._stopped.set()
            until = time.monotonic() + _GRACE
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
        if self._failure is not None:
            raise self._failure
        if self._missing:
            raise _damaged(f"no layer has {shown(min(self._missing))}")

    def _work(self) -> None:
        try:
            while (layer := self._next()) is not None:
                self._layer(layer)
        except BaseException as error:  # noqa: BLE001 - whatever it is, `receive` raises it
            self._failure = self._failure or error
            self._stopped.set()

    def _next(self) -> Descriptor | None:
        with self._lock:
            return self._waiting.pop() if self._waiting and not self._stopped.is_set() else None

    def _layer(self, layer: Descriptor) -> None:
        known = self._places.get(layer.digest, ())
        left = tuple(dropwhile(self._is_there, known))
        if known and not left:
            return
        try:
            self._read(layer, left[0] if left else None)
        except TarDamageError as damage:
            raise _damaged(f"layer `{layer.digest}`: {damage}") from damage
        except FileNotFoundError as error:
            raise _damaged(f"layer `{layer.digest}` is missing") from error

    def _is_there(self, place: Place) -> bool:
        """Whether an earlier try has left the whole file."""
        file = self._missing.get(place.path)
        if file is None or not self._stage.is_right(file.path, file.size, file.sha256):
            return False
        self._take(file.path)
        self._count(adopted=file.size)
        return True

    def _read(self, layer: Descriptor, first: Place | None) -> None:
        """Read a layer from its start; or from the first byte on that is missing of the file `first`."""
        with ExitStack() as streams:
            file = self._take(first.path) if first else None
            if first and file:
                with self._stage.open(file.path, file.size) as target:
                    stream = self._stream(streams, layer, first.content + target.kept)
                    self._fill(target, file, stream.exactly(file.size - target.kept), layer, first.content)
                start = first.content + file.size
                stream.skip(len(padding(file.size)))
                start += len(padding(file.size))
            else:
                start, stream = 0, self._stream(streams, layer, 0)
            reader = TarReader(stream)
            for member in reader.members():
                if member.kind is not Kind.FOLDER:
                    self._member(reader, member, layer, start + member.offset)
            if not stream.at_end:
                raise TarDamageError("something follows its end")

    def _stream(self, streams: ExitStack, layer: Descriptor, start: int) -> LayerStream:
        return streams.enter_context(closing(LayerStream(self._layers, layer, start)))

    def _member(self, reader: TarReader, member: Member, layer: Descriptor, offset: int) -> None:
        file = self._take(member.name.removeprefix(_TOP)) if member.name.startswith(_TOP) else None
        if file is None or file.size != member.size or member.kind is not Kind.FILE:
            raise TarDamageError(f"{shown(member.name)} is not in the list of files, or another one")
        with self._stage.open(file.path, file.size) as target:
            reader.leave_out(target.kept)
            self._fill(target, file, reader.content(), layer, offset)

    def _fill(self, target: StageFile, file: FileSum, pieces: Iterable[bytes], layer: Descriptor, offset: int) -> None:
        """Write what is missing; when what was there was not right, all of it, from `offset` of the layer."""
        self._count(adopted=target.kept)
        for piece in pieces:
            self._write(target, piece)
        if target.digest != file.sha256 and target.kept:
            self._count(adopted=-target.kept)
            target.restart()
            with closing(LayerStream(self._layers, layer, offset)) as stream:
                for piece in stream.exactly(file.size):
                    self._write(target, piece)
        if target.digest != file.sha256:
            raise TarDamageError(f"the sha256 of {shown(file.path)} is {target.digest}, expected {file.sha256}")
        self._stage.finish(file.path, target)

    def _write(self, target: StageFile, piece: bytes) -> None:
        if self._stopped.is_set():
            raise _StoppedError
        target.write(piece)
        self._count(pulled=len(piece))

    def _take(self, path: str) -> FileSum | None:
        with self._lock:
            return self._missing.pop(path, None)

    def _count(self, *, pulled: int = 0, adopted: int = 0) -> None:
        with self._lock:
            self.pulled += pulled
            self.adopted += adopted


class _StoppedError(Exception):
    """Another layer has failed, or somebody asked to stop."""


def _damaged(why: str) -> ContentMismatchError:
    return ContentMismatchError(
        f"the carrier is damaged: {why}", hint="`mlops-deploy verify` lists all that is wrong with it"
    )
