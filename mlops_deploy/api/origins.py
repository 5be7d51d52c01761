"""Where a model can be pulled from: a registry, or the store; nothing is asked before it is needed."""

from collections.abc import Iterator
from functools import cached_property
from typing import Final, Protocol

from mlops_deploy.api.registry_images import Remote, look_up, require_carrier
from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci.blobs import LayoutBlobs, open_plain
from mlops_deploy.oci.foreign import list_images, read_image
from mlops_deploy.oci.types import LAYER
from mlops_deploy.oci.view import CarrierView, view
from mlops_deploy.ports import Registries
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.layout import LayoutStore, Stored

_PIECE: Final = 2**20


class Origin(Protocol):
    """A carrier that can be read."""

    @property
    def ref(self) -> ImageRef:
        """What it is called; with the digest where that is known without asking."""
        ...

    @property
    def digest(self) -> Digest:
        """Its digest, which may have to be asked for."""
        ...

    @property
    def carrier(self) -> CarrierView:
        """What it says of itself, from its small documents.

        Raises `UnusableInputError` for what is no carrier, `ContentMismatchError` for a damaged one.
        """
        ...

    def read(self, digest: Digest, *, start: int, size: int) -> Iterator[bytes]:
        """The bytes of a blob of `size` bytes from `start` on; raises `FileNotFoundError` when it is not there."""
        ...


class RegistryOrigin:
    """See `Origin`."""

    def __init__(self, registries: Registries, ref: ImageRef) -> None:
        self._registries = registries
        self.ref = ref

    @property
    def digest(self) -> Digest:
        """See `Origin`."""
        return self.ref.digest or self._remote.digest

    @cached_property
    def carrier(self) -> CarrierView:
        """See `Origin`."""
        try:
            return view(self._remote.blobs, self._remote.digest)
        except ContentMismatchError:
            _require_readable(self._remote)
            raise

    def read(self, digest: Digest, *, start: int, size: int) -> Iterator[bytes]:
        """See `Origin`."""
        return self._remote.repository.read(digest, start=start, size=size)

    @cached_property
    def _remote(self) -> Remote:
        return look_up(self.ref, self._registries)


class StoreOrigin:
    """See `Origin`."""

    def __init__(self, store: LayoutStore, stored: Stored) -> None:
        self._store = store
        self.ref = stored.ref
        self.digest = stored.digest

    @cached_property
    def carrier(self) -> CarrierView:
        """See `Origin`."""
        return view(LayoutBlobs(self._store.path), self.digest)

    def read(self, digest: Digest, *, start: int, size: int) -> Iterator[bytes]:  # noqa: ARG002 - a file knows its own
        """See `Origin`."""
        with open_plain(self._store.blob_path(digest)) as file:
            file.seek(start)
            while piece := file.read(_PIECE):
                yield piece


def _require_readable(remote: Remote) -> None:
    """Raise `UnusableInputError` for what is whole, but no carrier, or not as its layers were built."""
    require_carrier(remote)
    try:
        blobs = remote.blobs
        types = {
            layer.media_type for one in list_images(blobs, remote.digest) for layer in read_image(blobs, one).layers
        }
    except DeployError:
        return
    if types - {LAYER}:
        raise UnusableInputError(
            f"the layers of `{remote.ref}` were compressed on their way to the registry",
            hint="`mlops-deploy build-model --push` sends them as they are",
        )
