"""Layers that do not give the very files of a model, and what ends when one fails."""

import tarfile
import threading
import time
from hashlib import sha256

import pytest

from mlops_deploy.api.receiving import Receiver
from mlops_deploy.errors import ContentMismatchError
from mlops_deploy.oci.metadata import FileSum
from mlops_deploy.oci.types import LAYER, Descriptor
from mlops_deploy.spec.refs import Digest
from mlops_deploy.store.stage import Stage
from tests.fakes.crafted import member, tar_of


def sums(**data):
    return [FileSum(path=path, size=len(what), sha256=sha256(what).hexdigest()) for path, what in data.items()]


class Layers:
    """Layers held in memory; one of them may fail, or come as slowly as it is read."""

    def __init__(self, *tars):
        self.tars = {Digest(sha256(data).hexdigest()): data for data in tars}
        self.before = {}

    @property
    def layers(self):
        return [Descriptor(media_type=LAYER, digest=digest, size=len(data)) for digest, data in self.tars.items()]

    def read(self, digest, *, start, size):
        for at in range(start, size, 512):
            if digest in self.before:
                self.before[digest](at)
            yield self.tars[digest][at : min(at + 512, size)]


def receive(tmp_path, layers, files, tick=lambda done: None):
    receiver = Receiver(layers, files, Stage(tmp_path / "model", files))
    receiver.receive(layers.layers, tick)
    return receiver


def test_what_fits_is_received(tmp_path):
    files = sums(a=b"a" * 1000, b=b"")
    layers = Layers(tar_of(member("models/a", b"a" * 1000)), tar_of(member("models/b")))
    assert receive(tmp_path, layers, files).pulled == 1000
    assert (tmp_path / "model" / "a").read_bytes() == b"a" * 1000


@pytest.mark.parametrize(
    "tar",
    [
        pytest.param(tar_of(member("models/a", b"a" * 100_000)), id="larger than listed"),
        pytest.param(tar_of(member("models/a", b"a")), id="smaller than listed"),
        pytest.param(tar_of(member("elsewhere/a", b"a" * 10)), id="in another folder"),
        pytest.param(tar_of(member("a", b"a" * 10)), id="in no folder"),
        pytest.param(tar_of(member("models/c", b"a" * 10)), id="not listed"),
    ],
)
def test_what_is_not_in_the_list_is_not_written(tmp_path, tar):
    with pytest.raises(ContentMismatchError, match="not in the list"):
        receive(tmp_path, Layers(tar), sums(a=b"a" * 10))
    assert not (tmp_path / "model" / "a").exists()


def test_a_link_is_no_empty_file(tmp_path):
    tar = tar_of(member("models/a", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
    with pytest.raises(ContentMismatchError, match="damaged"):
        receive(tmp_path, Layers(tar), sums(a=b""))


@pytest.mark.parametrize(
    ("tar", "why"),
    [
        (tar_of(member("models/a", b"b" * 10)), "the sha256 of `a`"),
        (tar_of(member("models/a", b"a" * 10)) + bytes(512) + b"x" * 512, "layer"),
        (tar_of(), "no layer has `a`"),
    ],
)
def test_other_bytes_more_bytes_and_none(tmp_path, tar, why):
    with pytest.raises(ContentMismatchError, match=why):
        receive(tmp_path, Layers(tar), sums(a=b"a" * 10))


@pytest.fixture
def two(tmp_path):
    """Two layers, of which the large one goes on only as `gate` lets it."""
    files = sums(small=b"s", large=b"l" * 200_000)
    layers = Layers(tar_of(member("models/small", b"s")), tar_of(member("models/large", b"l" * 200_000)))
    small, large = layers.tars
    return files, layers, small, large


def test_the_first_failure_is_told_and_ends_the_other_layer(tmp_path, two):
    files, layers, small, large = two
    begun, failed, read = threading.Event(), threading.Event(), []

    def fail(at):
        begun.wait(20)
        failed.set()
        raise OSError("the first")

    def wait(at):
        read.append(at)
        if at > 10_000:
            begun.set()
            failed.wait(20)
            time.sleep(0.05)

    layers.before = {small: fail, large: wait}
    with pytest.raises(OSError, match="the first"):
        receive(tmp_path, layers, files)
    assert len(read) < 200


def test_who_asks_to_stop_is_obeyed_by_all_layers(tmp_path, two):
    files, layers, _, large = two
    read = []

    def slowly(at):
        read.append(at)
        time.sleep(0.05)

    def stop(done):
        raise KeyboardInterrupt

    layers.before = {large: slowly}
    with pytest.raises(KeyboardInterrupt):
        receive(tmp_path, layers, files, stop)
    assert len(read) < 200
    was = len(read)
    time.sleep(0.05)
    assert len(read) == was
