"""One layer after the other, each made in one read and sent to every place that wants it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from mlops_deploy.oci.destination import Destination
from mlops_deploy.oci.packing import LayerPlan
from mlops_deploy.oci.stream import LayerSink, ModelStream
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.spec.requires import Sniffed


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A layer that all places have; of the files that were read for it, by their paths: sha256, and what they say."""

    layer: Descriptor
    sums: dict[str, str] = field(default_factory=dict)
    sniffed: dict[str, Sniffed] = field(default_factory=dict)


class LayerLine:
    """Streams layers to `places`; `on_again` hears how many bytes of the model are read a second time.

    Use as a context manager: leaving it ends the stream.
    """

    def __init__(self, stream: ModelStream, places: Sequence[Destination], on_again: Callable[[int], None]) -> None:
        self._stream = stream
        self._places = [(place, place.sink()) for place in places]
        self._on_again = on_again

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.__exit__(kind, error, at)

    def send(self, plan: LayerPlan, known: Descriptor | None, *, look: bool = False, new: bool = False) -> Sent:
        """Make every place have the layer; with `look` its files are read although the layer is known.

        `new`: no place has it from before. Places that had rather know the digest first are asked when the others have
        the layer: they may take it from one of those.
        """
        files = plan.files
        deferring = [place.defers(() if known or new else files) for place, _ in self._places]
        pairs = list(zip(self._places, deferring, strict=True))
        eager = [sink for (place, sink), late in pairs if not late and (known is None or place.wants(known))]
        sent = self._stream_to(plan, eager) if known is None or eager or look else Sent(layer=known)
        if any(deferring):
            self._stream.finish()
        if wanting := [sink for (place, sink), late in pairs if late and place.wants(sent.layer)]:
            if sent.sums:
                self._on_again(sum(file.size for file in files))
            return self._stream_to(plan, wanting)
        return sent

    def send_small(self, plan: LayerPlan) -> Descriptor:
        """Send a layer of texts; what it will be is looked at first: that costs nothing beside sending it in vain."""
        known, _ = self._stream.layer(plan, ())
        return self.send(plan, known).layer

    def settle(self) -> None:
        """Wait until the places have all that was sent."""
        self._stream.finish()

    def _stream_to(self, plan: LayerPlan, sinks: Sequence[LayerSink]) -> Sent:
        layer, sums = self._stream.layer(plan, sinks)
        return Sent(layer=layer, sums=sums, sniffed=self._stream.sniffed)

    def break_off(self, failure: BaseException) -> None:
        """Make what goes on raise `failure`; may be called from any thread."""
        self._stream.break_off(failure)
