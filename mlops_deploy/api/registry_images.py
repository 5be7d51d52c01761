"""An image in a registry, found by its reference and looked at without an engine: its documents alone are read."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from mlops_deploy.api.machine import this_platform
from mlops_deploy.api.registry_blobs import RegistryBlobs
from mlops_deploy.errors import ContentMismatchError, UnusableInputError
from mlops_deploy.oci.blobs import Blobs
from mlops_deploy.oci.foreign import Listed, list_images, read_image
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.ports import Registries, Repository
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.refs import ContentId, Digest, ImageRef
from mlops_deploy.store.layout import Stored

FindRegistries = Callable[[], Registries]
"""Gives the registries to who turns out to need them."""

_LATEST: Final = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """What a reference names in a registry now; `ref` says its digest."""

    repository: Repository
    root: Descriptor
    ref: ImageRef

    @property
    def digest(self) -> Digest:
        """Of the index, or of the one image."""
        return self.root.digest

    @property
    def blobs(self) -> RegistryBlobs:
        """All that it consists of."""
        return RegistryBlobs(self.repository, self.root)


def registry_ref(text: str) -> ImageRef | None:
    """The reference when `text` names an image in a registry, by the host that it begins with; else None."""
    try:
        ref = ImageRef.parse(text)
    except UnusableInputError:
        return None
    return ref if ref.host is not None else None


def look_up(ref: ImageRef, registries: Registries) -> Remote:
    """What `ref` names in its registry; a name alone means `latest`, as everywhere.

    Raises `UnusableInputError` when there is no such image.
    """
    repository = registries.repository(ref)
    root = repository.resolve(str(ref.digest or ref.tag or _LATEST))
    if root is None:
        raise UnusableInputError(
            f"the registry has no `{ref}`, or does not show it",
            hint=f"{_asked(ref)} `docker login {ref.host or 'docker.io'}` where one must log in to see it",
        )
    if ref.digest is not None and root.digest != ref.digest:
        raise ContentMismatchError(f"the registry answers with `{root.digest}` when it is asked for `{ref}`")
    return Remote(repository=repository, root=root, ref=replace(ref, digest=root.digest))


def _asked(ref: ImageRef) -> str:
    if ref.tag or ref.digest:
        return "is its name right?"
    return f"without a tag it means `:{_LATEST}`, which no push sets by itself;"


def image_labels(remote: Remote) -> Mapping[str, str]:
    """The labels of the image for this machine's platform, else of the first; none where there is no image to run.

    Raises `ContentMismatchError` for what is damaged, `UnusableInputError` for what is no image.
    """
    blobs = remote.blobs
    return _labels(blobs, list_images(blobs, remote.digest))


def require_carrier(remote: Remote) -> None:
    """Raise `UnusableInputError` for an image that is whole, but never was a carrier; what is damaged passes."""
    with suppress(ContentMismatchError):
        _carrier_labels(remote)


def remote_carrier(remote: Remote) -> Stored:
    """The carrier at hand, by its labels; raise `UnusableInputError` for an image that is none."""
    labels = _carrier_labels(remote)
    try:
        content = ContentId(labels.get(f"{LABEL}content", ""))
    except UnusableInputError as error:
        raise _no_carrier(remote) from error
    ref = remote.ref
    found = Stored(
        name=labels[f"{LABEL}name"],
        digest=remote.digest,
        content_id=content,
        tags=(f"{ref.name}:{ref.tag or remote.digest.short}",),
        time=None,
        source=None,
        pulled=True,
    )
    return found.labelled(labels)


def _carrier_labels(remote: Remote) -> Mapping[str, str]:
    blobs = remote.blobs
    listed = list_images(blobs, remote.digest)
    labels = _labels(blobs, listed)
    if f"{LABEL}name" not in labels:
        raise _no_carrier(remote)
    if listed[0].digest == remote.digest:
        raise UnusableInputError(
            f"`{remote.ref}` is the image of one platform, and a carrier is the index over all of its platforms",
            hint=_one_platform(remote.ref),
        )
    return labels


def _one_platform(ref: ImageRef) -> str:
    if ref.tag is None:
        return "name it by its tag, or by the digest that `mlops-deploy build-model` printed"
    return (
        "`build-model --push` and `mlops-deploy copy` send all of it; an engine, or another tool, sent one image alone"
    )


def _labels(blobs: Blobs, listed: Sequence[Listed]) -> Mapping[str, str]:
    if not listed:
        return {}
    here = this_platform()
    return read_image(blobs, next((image for image in listed if image.platform == here), listed[0])).labels


def _no_carrier(remote: Remote) -> UnusableInputError:
    return UnusableInputError(
        f"`{remote.ref}` is no carrier: it lacks the labels that say which model it carries",
        hint="`mlops-deploy build-model --push` makes carriers",
    )
