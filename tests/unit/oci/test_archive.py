import io
import json
import os
import tarfile
from types import SimpleNamespace

import pytest

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.archive import ArchiveFile, StreamedArchive
from mlops_deploy.oci.image import assemble
from mlops_deploy.oci.metadata import FileSum, ModelCard, describe
from mlops_deploy.oci.types import LAYER, Descriptor, Platform
from mlops_deploy.spec.refs import Digest, ImageRef

HERE = Platform("linux", "amd64")
NAMES = (ImageRef.parse("digits:1.0"), ImageRef.parse("registry.example:5000/team/digits:1.0"))


def descriptor(number, size=1000):
    return Descriptor(media_type=LAYER, digest=Digest(f"{number:064x}"), size=size)


def carrier():
    metadata = describe(ModelCard(name="digits"), [FileSum(path="a", size=1, sha256="0" * 64)])
    return assemble(metadata, {HERE: descriptor(1)}, [descriptor(2)], descriptor(3))


def fill(archive):
    found = carrier()
    for layer in found.layers:
        archive.begin(layer)
        archive.write(memoryview(bytes([int(layer.digest.hex, 16)]) * layer.size))
        archive.end(layer.digest)
    archive.finish(found, NAMES)
    return found


def streamed():
    parts = []
    archive = StreamedArchive(lambda data: parts.append(bytes(data)), HERE)
    fill(archive)
    data = b"".join(parts)
    assert archive.sent == len(data)
    return data


def in_a_file(path):
    fill(ArchiveFile(path, HERE))
    return path.read_bytes()


@pytest.fixture(params=["stream", "file"])
def data(request, tmp_path):
    return streamed() if request.param == "stream" else in_a_file(tmp_path / "x.tar")


def blob(tar, digest):
    """A blob as a reader that unpacks finds it: links are followed by tarfile."""
    return tar.extractfile(f"blobs/sha256/{digest.hex}").read()


def test_every_layer_and_document_is_there_under_its_digest(data):
    found = carrier()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for document in found.documents:
            assert blob(tar, document.descriptor.digest) == document.data
        for layer in found.layers:
            assert blob(tar, layer.digest) == bytes([int(layer.digest.hex, 16)]) * layer.size


def test_dockers_manifest_points_at_layers_in_order(data):
    found = carrier()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        sizes = [tar.extractfile(name).read(1) for name in manifest["Layers"]]
        config = tar.extractfile(manifest["Config"]).read()
    assert sizes == [b"\1", b"\2", b"\3"]
    assert config == found.images[0].config.data
    assert manifest["RepoTags"] == ["digits:1.0", "registry.example:5000/team/digits:1.0"]


def test_the_index_has_the_names_as_containerd_keeps_them(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        index = json.load(tar.extractfile("index.json"))
        assert json.load(tar.extractfile("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    assert {entry["digest"] for entry in index["manifests"]} == {str(carrier().digest)}
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [
        "docker.io/library/digits:1.0",
        "registry.example:5000/team/digits:1.0",
    ]
    assert {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]} == {"1.0"}


def test_the_same_carrier_gives_the_same_bytes(tmp_path):
    assert streamed() == streamed()
    assert in_a_file(tmp_path / "a.tar") == in_a_file(tmp_path / "b.tar")


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    archive = ArchiveFile(tmp_path / "x.tar", HERE)
    assert list(tmp_path.iterdir()) == []
    archive.begin(SimpleNamespace(size=3))
    archive.write(memoryview(b"abc"))
    assert not (tmp_path / "x.tar").exists()
    archive.abort()
    assert list(tmp_path.iterdir()) == []


def test_an_abort_keeps_the_archive_that_was_there(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"before")
    archive = ArchiveFile(tmp_path / "x.tar", HERE)
    archive.begin(SimpleNamespace(size=3))
    archive.abort()
    assert (tmp_path / "x.tar").read_bytes() == b"before"


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "x.tar").symlink_to("there/y.tar")
    in_a_file(tmp_path / "x.tar")
    assert (tmp_path / "x.tar").is_symlink()
    assert (tmp_path / "there" / "y.tar").is_file()


def test_what_is_no_plain_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / ".." / tmp_path.name):
        with pytest.raises(UnusableInputError, match="is not a plain file"):
            ArchiveFile(path, HERE)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DeployError, match=r"the archive `.*x.tar` cannot be written: no such file"):
        ArchiveFile(tmp_path / "nothing" / "x.tar", HERE).begin(SimpleNamespace(size=1))


def test_an_archive_is_never_there_beforehand(tmp_path):
    for archive in (ArchiveFile(tmp_path / "x.tar", HERE), StreamedArchive(print, HERE)):
        assert not archive.has(carrier())
        assert archive.wants(descriptor(1))
