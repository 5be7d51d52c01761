"""The blobs of a carrier in a registry, read as those of a layout or an archive are."""

import json
from collections.abc import Iterator
from contextlib import suppress

from mlops_deploy.oci.archive import LAYOUT
from mlops_deploy.oci.documents import DocumentError, image_index
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.ports import Repository
from mlops_deploy.spec.refs import Digest


class RegistryBlobs:
    """See `oci.blobs.Blobs`. `root` is the image that is looked at: what it names are documents, all else are blobs.

    Beside the blobs a registry has nothing; what it says of the root stands there as a layout would say it.
    """

    def __init__(self, repository: Repository, root: Descriptor) -> None:
        self._repository = repository
        self._root = root
        self._documents = {root.digest}

    def read(self, digest: Digest) -> Iterator[bytes]:
        """See `oci.blobs.Blobs`."""
        if digest in self._documents:
            data = self._repository.document(digest)
            if digest == self._root.digest:
                with suppress(DocumentError):
                    self._documents |= {manifest.digest for manifest in image_index(data).manifests}
            yield data
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
