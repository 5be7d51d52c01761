"""Blobs and images to send to registries, and the way in which the product sends them."""

from functools import cache
from hashlib import sha256
from random import Random

from mlops_deploy.oci.types import CONFIG, INDEX, LAYER, MANIFEST, Blob, Descriptor
from mlops_deploy.spec.refs import Digest


def digest_of(data):
    return Digest(sha256(data).hexdigest())


@cache
def some(size, seed=0):
    return Random(f"{size} {seed}").randbytes(size)


def described(data, kind=LAYER):
    return Descriptor(media_type=kind, digest=digest_of(data), size=len(data))


def small(data, kind=CONFIG):
    return Blob(descriptor=described(data, kind), data=data)


class Source:
    """Bytes that can be read again, and how often they were."""

    def __init__(self, data):
        self.data, self.times = data, 0

    def again(self):
        self.times += 1
        for at in range(0, len(self.data), 100_000):
            yield self.data[at : at + 100_000]


def send(repository, data, *, block=256 * 1024, source=None):
    """Through one block of memory, as the product does; the digest is told at the end."""
    source = source or Source(data)
    upload = repository.upload(len(data), source.again)
    memory = bytearray(block)
    for at in range(0, len(data), block):
        piece = data[at : at + block]
        memory[: len(piece)] = piece
        upload.write(memoryview(memory)[: len(piece)])
        memory[: len(piece)] = bytes(len(piece))
    upload.commit(digest_of(data))
    return source


def image(repository, *layers):
    """Send an image of these layers; its manifest."""
    for layer in layers:
        send(repository, layer)
    config = small(b"{}")
    repository.put_blob(config)
    parts = {"config": config.descriptor.as_json(), "layers": [described(one).as_json() for one in layers]}
    return Blob.of_json(MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, **parts})


def index_of(*manifests):
    entries = [one.descriptor.as_json() for one in manifests]
    return Blob.of_json(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
