"""Busybox images as they are found in registries: planted in a registry whose content is at hand."""

import gzip
import io
import json
import tarfile

from tests.fakes.registry.content import digest_of

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker.distribution.manifest."
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def layer(*members):
    """A tar of `(name, bytes)`, `(name, link type, target)` members."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, *what in members:
            info = tarfile.TarInfo(name)
            if len(what) == 1:
                info.size = len(what[0])
                tar.addfile(info, io.BytesIO(what[0]))
            else:
                info.type, info.linkname = what
                tar.addfile(info)
    return held.getvalue()


def busybox_layer(binary):
    """As the official image has it: the first applet's name has the bytes, all others are hard links to it."""
    return layer(("./bin/[", binary), ("./bin/busybox", tarfile.LNKTYPE, "./bin/["))


def plant_image(content, repository, *layers, machine="amd64", docker=False, labels=None, packed=True):
    """One platform's image; its descriptor as an index has it."""
    blobs = [gzip.compress(data, mtime=0) if packed else data for data in layers]
    said = {"architecture": machine, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    config = json.dumps(said | ({} if labels is None else {"config": {"Labels": labels}})).encode()
    kind = f"{DOCKER}v2+json" if docker else f"{OCI}manifest.v1+json"
    layer_kind = DOCKER_LAYER if docker else f"{OCI}layer.v1.tar{'+gzip' if packed else ''}"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": _described(DOCKER_CONFIG if docker else f"{OCI}config.v1+json", config),
        "layers": [_described(layer_kind, blob) for blob in blobs],
    }
    for blob in (config, *blobs):
        content.plant_blob(repository, blob)
    data = json.dumps(manifest).encode()
    content.plant_manifest(repository, data, kind)
    return _described(kind, data) | {"platform": {"os": "linux", "architecture": machine}}


def plant_index(content, repository, tag, *images, docker=False):
    """An index over the images under a tag; its digest."""
    kind = f"{DOCKER}list.v2+json" if docker else f"{OCI}index.v1+json"
    data = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": list(images)}).encode()
    return content.plant_manifest(repository, data, kind, tag)


def _described(kind, data):
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
