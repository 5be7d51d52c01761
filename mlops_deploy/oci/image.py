"""The image documents of a carrier: one config and manifest per platform, one index over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mlops_deploy.oci.metadata import Metadata
from mlops_deploy.oci.types import CONFIG, INDEX, MANIFEST, Blob, Descriptor, JsonDict, Platform
from mlops_deploy.spec.refs import ContentId, Digest

GUARD: Final = '. /deploy.sh; [ "$DEPLOYED" = "$MODEL_ID" ]'
"""A shell that cannot read its script ends with 0; this form does so only when the script says that it is done."""

COMMAND: Final = ("/bin/sh", "-c", GUARD)
_CREATED: Final = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformImage:
    """The runnable image for one platform."""

    platform: Platform
    config: Blob
    manifest: Blob
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """A carrier, complete: its metadata, an image per platform, and the index whose digest names it."""

    metadata: Metadata
    images: tuple[PlatformImage, ...]
    index: Blob

    @property
    def digest(self) -> Digest:
        """The digest of the index: what a reference to this carrier names."""
        return self.index.descriptor.digest

    @property
    def content_id(self) -> ContentId:
        """What the model is."""
        return self.metadata.content_id

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Every layer once, in the order of first use."""
        return tuple(dict.fromkeys(layer for image in self.images for layer in image.layers))

    @property
    def documents(self) -> tuple[Blob, ...]:
        """Configs, manifests and the index, each after what it refers to."""
        return (*(blob for image in self.images for blob in (image.config, image.manifest)), self.index)

    def image_for(self, platform: Platform) -> PlatformImage:
        """The image for `platform`; where there is none, the first."""
        return next((image for image in self.images if image.platform == platform), self.images[0])

    def short_tag(self, name: str) -> str:
        """The name that always belongs to exactly this carrier: `NAME:<12 hex of the index digest>`."""
        return f"{name}:{self.digest.short}"


def assemble(
    metadata: Metadata,
    shells: Mapping[Platform, Descriptor],
    model_layers: Sequence[Descriptor],
    metadata_layer: Descriptor,
) -> Carrier:
    """Put the image documents together; the same parts give the same bytes."""
    images = tuple(
        _image(metadata, platform, (shell, *model_layers, metadata_layer)) for platform, shell in sorted(shells.items())
    )
    index = Blob.of_json(INDEX, index_document([(image.manifest.descriptor, image.platform) for image in images]))
    return Carrier(metadata=metadata, images=images, index=index)


def index_document(images: Sequence[tuple[Descriptor, Platform]]) -> JsonDict:
    """The index over the manifests."""
    manifests = [manifest.as_json(platform=platform) for manifest, platform in images]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}


def manifest_document(config: Descriptor, layers: Sequence[Descriptor]) -> JsonDict:
    """The manifest of one platform's image."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.as_json(),
        "layers": [layer.as_json() for layer in layers],
    }


def settings(metadata: Metadata) -> JsonDict:
    """How a runtime is told to run a carrier; without an entry point, a user or volumes on purpose."""
    return {
        "Cmd": list(COMMAND),
        "Env": ["PATH=/bin", f"MODEL_ID={metadata.content_id}"],
        "Labels": metadata.labels(),
        "WorkingDir": "/",
    }


def _image(metadata: Metadata, platform: Platform, layers: tuple[Descriptor, ...]) -> PlatformImage:
    config = Blob.of_json(CONFIG, _config(metadata, platform, layers))
    manifest = Blob.of_json(MANIFEST, manifest_document(config.descriptor, layers))
    return PlatformImage(platform=platform, config=config, manifest=manifest, layers=layers)


def _config(metadata: Metadata, platform: Platform, layers: Sequence[Descriptor]) -> JsonDict:
    said = ["shell", *("model" for _ in layers[1:-1]), "metadata and deploy.sh"]
    return {
        "architecture": platform.architecture,
        "os": platform.os,
        "created": _CREATED,
        "config": settings(metadata),
        # Layers are stored uncompressed, so a layer's digest is its diff id.
        "rootfs": {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers]},
        "history": [{"created": _CREATED, "created_by": f"mlops-deploy: {what}"} for what in said],
    }
