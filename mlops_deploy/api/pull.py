"""Bring a model from a registry, or from the store, to a volume in one pass: `v/<content id>`, whole or not there.

The promises, and what is done on the volume, are those of the carrier's `deploy.sh`; any mix of both may run at once.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_deploy.api.origins import Origin, RegistryOrigin
from mlops_deploy.api.receiving import Receiver
from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.card import Listing
from mlops_deploy.oci.metadata import Metadata, describe
from mlops_deploy.oci.names import name_trouble, shown
from mlops_deploy.oci.partial import sync_folder
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.ports import Registries, Story
from mlops_deploy.spec.refs import ContentId, Digest, ImageRef
from mlops_deploy.store.claims import Claim, Claims
from mlops_deploy.store.records import Records
from mlops_deploy.store.stage import Stage
from mlops_deploy.store.volume import Volume, VolumeError, failing_on, is_verified, is_whole, needed_kib

_PATIENCE: Final = 60
_SLOW: Final = 16384
"""KiB a second that a copy may take: an end to waiting for one that does not end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What is on the volume now, and what it took; `path` is the model's folder."""

    name: str
    content_id: ContentId
    digest: Digest
    path: Path
    size: int
    found: bool
    bytes_pulled: int
    bytes_adopted: int
    seconds: float

    @property
    def line(self) -> str:
        """It in one line, as `deploy.sh` says it."""
        deed = "found" if self.found else "copied"
        return f"{deed} {self.name} {self.content_id.short}: {self.size} bytes in {self.seconds:.0f} s"


def pull(
    ref: ImageRef,
    volume: Path,
    registries: Registries,
    story: Story,
    *,
    content_id: ContentId | None = None,
    rehash: bool = False,
) -> Pulled:
    """Bring the model of the carrier `ref`, from its registry, to `volume`, an absolute path; see `pull_from`."""
    return pull_from(RegistryOrigin(registries, ref), volume, story, content_id=content_id, rehash=rehash)


def pull_from(
    origin: Origin, volume: Path, story: Story, *, content_id: ContentId | None = None, rehash: bool = False
) -> Pulled:
    """Bring a model to `volume` unless it is there whole, and point the link of its name at it.

    There, by names and sizes, or, with `rehash`, by its bytes, means that nothing is fetched but the carrier's small
    documents; not even these when `ref` has a digest that was pulled to this volume before. `content_id` refuses
    another model.

    Raises `ContentMismatchError` for damage and for another model, `VolumeError` when the volume cannot be written,
    `InTheWayError` for links on it, and what the registry gives cause for. What was fetched until it did not answer
    any more, or until a signal came, stays for the next one.
    """
    return _Pull(origin, Volume(volume), story, rehash=rehash).run(content_id)


class _Pull:
    """One run."""

    def __init__(self, origin: Origin, volume: Volume, story: Story, *, rehash: bool) -> None:
        self._origin = origin
        self._volume = volume
        self._story = story
        self._rehash = rehash
        self._started = time.monotonic()
        self._pulled = self._adopted = 0

    def run(self, expected: ContentId | None) -> Pulled:
        records, digest = Records(self._volume), self._origin.ref.digest
        remembered = records.listing(digest) if digest else None
        model = sound(remembered or self._origin.carrier.listing)
        if expected is not None and model.content_id != expected:
            message = f"`{self._origin.ref}` carries model {model.content_id}, expected {expected}"
            raise ContentMismatchError(message, hint="correct one of them")
        self._volume.refuse_links(model.content_id)
        self._volume.refuse_what_is_named(model.card.name)
        if found := self._is_there(model):
            self._volume.point(model.card.name, model.content_id)
            Claims(self._volume, model.content_id, 0).tidied()
        else:
            found = not self._copied(model)
        if not remembered:
            records.remember(self._origin.digest, model.manifest)
        return self._done(model, found=found)

    def _is_there(self, model: Metadata) -> bool:
        home = self._volume.home(model.content_id)
        return is_whole(home, model.files) and (not self._rehash or is_verified(home, model.files))

    def _copied(self, model: Metadata) -> bool:
        """Copy the model, and say so; False when another has brought it meanwhile."""
        claim = self._claim(model)
        if claim is None:
            self._volume.point(model.card.name, model.content_id)
            return False
        with _released(claim):
            if copying := not self._is_there(model):
                with failing_on(self._volume.path):
                    self._copy(claim, model)
            self._volume.point(model.card.name, model.content_id)
        return copying

    def _claim(self, model: Metadata) -> Claim | None:
        """A claim on the model; None when another has brought it meanwhile."""
        claims = Claims(self._volume, model.content_id, _PATIENCE + _kib(model) // _SLOW)
        told = False
        try:
            self._volume.prepare()
            while True:
                with suppress(FileExistsError):  # somebody was faster
                    if (claim := claims.taken()) is not None:
                        return claim
                    if not told:
                        self._story.say("waiting: somebody else copies this model now")
                    told = True
                if self._is_there(model):
                    return None
        except OSError as error:
            raise self._volume.refusal(error, model.content_id) from error

    def _copy(self, claim: Claim, model: Metadata) -> None:
        home, layers = self._volume.home(model.content_id), self._layers()
        stage = Stage(claim.model, model.files)
        self._make_room(claim, model, stage)
        self._story.say(f"pulling {model.size:,} bytes of `{self._origin.ref}` to `{home}`")
        receiver = Receiver(self._origin, model.files, stage)
        label = f"pulling {model.card.name}"
        try:
            receiver.receive(layers, lambda done: self._story.progress(label, done, model.size))
        finally:
            self._pulled, self._adopted = receiver.pulled, receiver.adopted
        stage.flush()
        claim.publish(home, lambda: self._is_there(model))
        for folder in (self._volume.versions, self._volume.path):
            sync_folder(folder)

    def _layers(self) -> Sequence[Descriptor]:
        """Those of the model: the first one is the shell, the last one says what the model is."""
        return self._origin.carrier.images[0].layers[1:-1]

    def _make_room(self, claim: Claim, model: Metadata, stage: Stage) -> None:
        needed, home = _kib(model) - needed_kib(stage.kept.values()), self._volume.home(model.content_id)
        if not self._volume.has_room(needed) and home.exists():
            claim.discard(home)
        self._volume.require_room(needed)

    def _done(self, model: Metadata, *, found: bool) -> Pulled:
        return Pulled(
            name=model.card.name,
            content_id=model.content_id,
            digest=self._origin.digest,
            path=self._volume.home(model.content_id),
            size=model.size,
            found=found,
            bytes_pulled=self._pulled,
            bytes_adopted=self._adopted,
            seconds=time.monotonic() - self._started,
        )


def sound(listing: Listing) -> Metadata:
    """The model that a carrier lists; raise `ContentMismatchError` for paths that none has, and another content id."""
    names = [file.path for file in listing.files]
    above = {name[:at] for name in names for at, char in enumerate(name) if char == "/"}
    wrong = [name for name in names if name in above or any(map(name_trouble, name.split("/"))) or name_trouble(name)]
    if wrong or not names or len(set(names)) < len(names):
        raise _damaged(f"it lists {shown(wrong[0])}" if wrong else "it lists no file, or one twice")
    model = describe(listing.card, sorted(listing.files, key=lambda file: file.path.encode()))
    if model.content_id != listing.content_id:
        raise _damaged(f"it says content {listing.content_id}, but its files give {model.content_id}")
    return model


def _damaged(why: str) -> ContentMismatchError:
    return ContentMismatchError(
        f"the carrier's `manifest.json` is damaged: {why}", hint="`mlops-deploy verify` lists all that is wrong with it"
    )


@contextmanager
def _released(claim: Claim) -> Iterator[None]:
    """Release the claim at the end; what is not itself at fault stays for the next one who copies this model."""
    try:
        yield
    except (ContentMismatchError, VolumeError):
        claim.release()
        raise
    except BaseException:
        claim.release(keep=True)
        raise
    claim.release()


def _kib(model: Metadata) -> int:
    return needed_kib(file.size for file in model.files)
