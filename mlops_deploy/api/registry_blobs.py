"""The blobs of an image in a registry, read as those of a layout or an archive are."""

import json
from collections.abc import Iterator
from contextlib import suppress

from mlops_deploy.oci.archive import LAYOUT
from mlops_deploy.oci.documents import DocumentError
from mlops_deploy.oci.foreign import manifests_of
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.ports import Repository
from mlops_deploy.spec.refs import Digest


class RegistryBlobs:
    """See `oci.blobs.Blobs`. `root` is the image that is looked at: what it names are documents, all else are blobs.

    Beside the blobs a registry has nothing; what it says of the root stands there as a layout would say it. The root
    is asked for once and kept.
    """

    def __init__(self, repository: Repository, root: Descriptor) -> None:
        self._repository = repository
        self._root = root
        self._first: bytes | None = None
        self._documents = {root.digest}

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `oci.blobs.Blobs`."""
        if digest == self._root.digest:
            yield self._index()
        elif digest in self._documents:
            yield self._repository.document(digest)
        else:
            yield from self._repository.read(digest)

    def beside(self, name: str) -> Iterator[bytes]:
        """See `oci.blobs.Blobs`."""
        if name == "oci-layout":
            yield LAYOUT
        elif name == "index.json":
            yield json.dumps({"schemaVersion": 2, "manifests": [self._root.as_json()]}).encode()
        else:
            raise FileNotFoundError(name)

    def _index(self) -> bytes:
        if self._first is None:
            self._first = self._repository.document(self._root.digest)
            with suppress(DocumentError):
                self._documents |= {image.digest for image in manifests_of(self._first) or ()}
        return self._first
