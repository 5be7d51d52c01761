"""A carrier's own deploy.sh, run from a store with the carrier's own shell; what is unpacked for it is checked."""

import io
import shutil
import tarfile

import pytest

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.api.bootstrap import place_model, unpack
from mlops_deploy.api.build_model import ModelBuild, build_model
from mlops_deploy.api.shells import ON_THIS_MACHINE
from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci.blobs import LayoutBlobs
from mlops_deploy.oci.metadata import ModelCard
from mlops_deploy.oci.shell import read_shell
from mlops_deploy.oci.view import view_images
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.destination import StoreDestination
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built
from tests.fakes.carriers import Silent, fake_shell, write_model

FILES = {"model.bin": b"weights" * 1000, "with blanks/vocab": b"a b c"}


def static_shell():
    for path in ON_THIS_MACHINE:
        try:
            return read_shell(path)
        except UnusableInputError:
            continue
    pytest.skip("no static busybox on this machine (`apt install busybox-static`)")


def stored(folder, shell):
    """A carrier of FILES in a new store."""
    store = LayoutStore(folder / "store")
    store.create()
    card = ModelCard(name="digits")
    build = ModelBuild(path=write_model(folder / "model", FILES), card=card, shells=(shell,))

    def entry(carrier):
        return Built(
            time="2026-01-01T00:00:00+00:00",
            name=card.name,
            digest=str(carrier.digest),
            content_id=str(carrier.content_id),
            tags=(),
            source="",
        )

    build_model(build, [StoreDestination(store, entry)], DigestCache(None), Silent())
    return store, store.find("digits")


@pytest.fixture
def carrier(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    return stored(folder, static_shell())


def layers(carrier):
    store, found = carrier
    (image,) = view_images(LayoutBlobs(store.path), found.digest)
    return [store.blob_path(layer.digest) for layer in image.layers]


def place(carrier, folder, story=None):
    store, found = carrier
    return place_model(store, found, folder, LocalRunner(), story or Silent())


def contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_the_model_is_copied_once_and_found_afterwards_and_nothing_else_is_left(carrier, tmp_path):
    first, second = Silent(), Silent()
    folder = tmp_path / "serve it"
    path = place(carrier, folder, first)
    assert path == folder / "models" / "v" / carrier[1].content_id.hex
    assert contents(path) == FILES
    assert place(carrier, folder, second) == path
    assert first.said[0].startswith("copied digits")
    assert second.said[0].startswith("found digits")
    assert sorted(entry.name for entry in folder.iterdir()) == [".lock", "models"]


def test_a_model_that_is_there_is_not_unpacked_again(carrier, tmp_path):
    place(carrier, tmp_path / "serve")
    for layer in layers(carrier)[1:-1]:
        layer.unlink()
    place(carrier, tmp_path / "serve")


def test_a_model_that_was_damaged_meanwhile_is_copied_again(carrier, tmp_path):
    path = place(carrier, tmp_path / "serve")
    (path / "model.bin").unlink()
    story = Silent()
    place(carrier, tmp_path / "serve", story)
    assert contents(path) == FILES
    assert story.said[0].startswith("copied digits")


def test_what_a_killed_run_left_is_swept(carrier, tmp_path):
    left = tmp_path / "serve" / "carrier" / "models"
    left.mkdir(parents=True)
    (left / "model.bin").write_bytes(b"half")
    assert contents(place(carrier, tmp_path / "serve")) == FILES


@pytest.mark.parametrize("number", [0, -1])
def test_a_shell_or_script_that_is_not_what_its_digest_says_is_never_run(carrier, tmp_path, number):
    layer = layers(carrier)[number]
    damaged = bytearray(layer.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    layer.write_bytes(damaged)
    with pytest.raises(ContentMismatchError) as refused:
        place(carrier, tmp_path / "serve")
    assert "`mlops-deploy verify`" in refused.value.hint
    assert not (tmp_path / "serve" / "models").exists()


def test_a_damaged_model_is_refused_by_deploy_sh(carrier, tmp_path):
    layer = layers(carrier)[1]
    layer.write_bytes(layer.read_bytes().replace(b"weights", b"heights", 1))
    with pytest.raises(ContentMismatchError, match="is damaged") as refused:
        place(carrier, tmp_path / "serve")
    assert any("model.bin" in line for line in refused.value.detail)
    assert "mlops-deploy verify digits@sha256:" in refused.value.hint
    assert not list((tmp_path / "serve").rglob("model.bin"))


def test_a_folder_that_cannot_be_made_is_one_clear_error(carrier, tmp_path):
    (tmp_path / "serve").write_text("in the way")
    with pytest.raises(DeployError, match="cannot be written"):
        place(carrier, tmp_path / "serve")


def test_a_carrier_without_a_shell_for_this_machine_is_refused(tmp_path, monkeypatch):
    there = stored(tmp_path, fake_shell(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(UnusableInputError, match="a shell for linux/amd64 only, and this is linux/riscv64"):
        place(there, tmp_path / "serve")


def member(name, kind=tarfile.REGTYPE, target="", data=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(data)
    return info, io.BytesIO(data)


@pytest.mark.parametrize(
    "evil",
    [
        [member("../out", data=b"x")],
        [member("models/../../out", data=b"x")],
        [member("/out", data=b"x")],
        [member("etc/passwd", data=b"x")],
        [member("models/link", tarfile.SYMTYPE, "/etc/passwd")],
        [member("bin/sh", tarfile.SYMTYPE, "/bin/sh")],
        [member("models/bin/sh", tarfile.SYMTYPE, "busybox")],
        [member("models/hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("models/fifo", tarfile.FIFOTYPE)],
        [member("models/device", tarfile.CHRTYPE)],
        [member("bin/sh", tarfile.SYMTYPE, "busybox"), member("bin/sh/x", data=b"x")],
        [member("bin/sh", tarfile.SYMTYPE, "busybox"), member("bin/sh", data=b"x")],
        [member("models/twice", data=b"x"), member("models/twice", data=b"y")],
    ],
    ids=lambda evil: evil[-1][0].name,
)
def test_a_layer_that_holds_anything_else_than_a_carriers_files_is_refused(tmp_path, evil):
    layer, root = tmp_path / "layer.tar", tmp_path / "deep" / "root"
    with tarfile.open(layer, "w") as tar:
        for info, data in evil:
            tar.addfile(info, data)
    with pytest.raises((ContentMismatchError, OSError)):
        unpack(layer, root)
    shutil.rmtree(root, ignore_errors=True)
    assert [path.name for path in tmp_path.rglob("*") if not path.is_dir()] == ["layer.tar"]


def test_bytes_that_are_no_tar_are_refused(tmp_path):
    (tmp_path / "layer").write_bytes(b"\x01" * 2000)
    with pytest.raises(ContentMismatchError, match="cannot be read"):
        unpack(tmp_path / "layer", tmp_path / "root")
    with pytest.raises(ContentMismatchError, match="cannot be read"):
        unpack(tmp_path / "absent", tmp_path / "root")


def test_a_layer_that_was_cut_off_is_refused(tmp_path):
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        info, data = member("models/w", data=b"w" * 100_000)
        tar.addfile(info, data)
    with layer.open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(ContentMismatchError):
        unpack(layer, tmp_path / "root")
