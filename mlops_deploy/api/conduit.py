"""From pushed to pulled: what one thread puts, another iterates over."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from mlops_deploy.errors import DeployError

_PATIENCE: Final = 2.0
"""Seconds that a broken-off consumer gets to come back."""


class Conduit:
    """Turns `put` in one thread into an iterable for a consumer in another; no block is copied or kept."""

    def __init__(self, consume: Callable[[Iterable[bytes | memoryview]], None]) -> None:
        self._consume = consume
        self._changed = threading.Condition()
        self._block: bytes | memoryview | None = None
        self._closed = self._ended = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, block: bytes | memoryview) -> None:
        """Hand a block over and wait until the consumer is done with it; raise what the consumer raised."""
        with self._changed:
            self._block = block
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._block is None or self._ended or self._failure is not None)
            self._raise_failure()

    def close(self) -> None:
        """Say that nothing follows, and wait for the consumer's end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._raise_failure()

    def break_off(self) -> None:
        """Make the consumer fail, so that it keeps nothing of what it got; one that hangs is left behind."""
        with self._changed:
            self._failure = self._failure or BrokenOffError("the build failed elsewhere")
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_PATIENCE)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._ended and not self._closed:
            raise DeployError("the other end took less than all of it")

    def _run(self) -> None:
        try:
            self._consume(self._blocks())
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that puts
            self._failure = self._failure or error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _blocks(self) -> Iterator[bytes | memoryview]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._block is not None or self._closed)
                block = self._block
            if isinstance(self._failure, BrokenOffError):
                raise self._failure
            if block is None:
                return
            yield block
            with self._changed:
                self._block = None
                self._changed.notify_all()


class BrokenOffError(DeployError):
    """What the consumer got so far is void."""
