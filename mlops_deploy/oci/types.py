"""Media types, descriptors and platforms of the OCI image specification 1.1."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from mlops_deploy.spec.refs import Digest

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
REF_NAME: Final = "org.opencontainers.image.ref.name"
CONTAINERD_NAME: Final = "io.containerd.image.name"

JsonDict = dict[str, object]


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system and an architecture, in Go's names: `linux/amd64`."""

    os: str
    architecture: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/architecture`."""
        system, _, architecture = text.partition("/")
        return cls(system, architecture)

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a blob is, how large it is in bytes, and its digest."""

    media_type: str
    digest: Digest
    size: int

    def as_json(self, *, platform: Platform | None = None, annotations: Mapping[str, str] | None = None) -> JsonDict:
        """The descriptor as the specification writes it."""
        found: JsonDict = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if platform:
            found["platform"] = {"architecture": platform.architecture, "os": platform.os}
        if annotations:
            found["annotations"] = dict(sorted(annotations.items()))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A small document with its descriptor; the bytes are serialised once and never again."""

    descriptor: Descriptor
    data: bytes

    @classmethod
    def of_json(cls, media_type: str, document: JsonDict) -> Self:
        """Serialise `document` canonically: sorted keys, no blanks."""
        data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        return cls(
            descriptor=Descriptor(media_type=media_type, digest=Digest(sha256(data).hexdigest()), size=len(data)),
            data=data,
        )
