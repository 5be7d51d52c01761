"""What a volume remembers of the carriers pulled to it, so that nobody has to be asked for a model that is there.

`v/.listings/<digest of the carrier>` is its `manifest.json`. Whoever lists `v` skips names that begin with a dot.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.blobs import open_plain
from mlops_deploy.oci.card import Listing, read_listing
from mlops_deploy.oci.documents import DocumentError
from mlops_deploy.oci.partial import PartialFile, sweep
from mlops_deploy.oci.view import LARGEST_METADATA
from mlops_deploy.spec.refs import Digest
from mlops_deploy.store.volume import Volume

_FOLDER: Final = ".listings"


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one volume; who may write to it is trusted with them as with the models."""

    volume: Volume

    def listing(self, carrier: Digest) -> Listing | None:
        """What is remembered of a carrier; None for nothing, and for what cannot be read."""
        try:
            with open_plain(self.volume.versions / _FOLDER / carrier.hex) as file:
                return read_listing(file.read(LARGEST_METADATA))
        except (OSError, DeployError, DocumentError):
            return None

    def remember(self, carrier: Digest, manifest: bytes) -> None:
        """Write it down where that can be, and forget what models that are gone were."""
        folder = self.volume.versions / _FOLDER
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            sweep(folder)
            partial = PartialFile(folder)
            try:
                partial.write(manifest)
                partial.commit(folder / carrier.hex)
            finally:
                partial.discard()
            for path in folder.iterdir():
                with suppress(UnusableInputError):  # what is not named like a record is none
                    self._forget_gone(Digest(path.name))

    def _forget_gone(self, carrier: Digest) -> None:
        listing = self.listing(carrier)
        if listing is None or not self.volume.home(listing.content_id).exists():
            (self.volume.versions / _FOLDER / carrier.hex).unlink(missing_ok=True)
