import io
import os
import tarfile
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci import stream as stream_module
from mlops_deploy.oci.inventory import take_inventory
from mlops_deploy.oci.packing import LayerPlan, plan_layers
from mlops_deploy.oci.stream import BLOCK, ModelStream
from mlops_deploy.oci.tar import Text
from tests.fakes.carriers import Keeper, write_model


def plan_of(path):
    (plan,) = plan_layers(take_inventory(path).files)
    return plan


def streamed(plan, *sinks):
    counts = []
    with ModelStream(counts.append) as stream:
        descriptor, sums = stream.layer(plan, sinks)
        stream.finish()
    return descriptor, sums, sum(counts)


SIZES = st.one_of(st.integers(0, 2000), st.integers(BLOCK - 1600, BLOCK + 100), st.integers(65_000, 66_000))


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(sizes=st.lists(SIZES, min_size=1, max_size=8))
def test_what_flows_is_a_tar_of_the_files_whatever_their_sizes(tmp_path_factory, sizes):
    root = tmp_path_factory.mktemp("model")
    files = {f"f{n}": os.urandom(size) for n, size in enumerate(sizes)}
    files["last"] = b"x"
    write_model(root, files)
    plan, one, other = plan_of(root), Keeper(), Keeper()
    descriptor, sums, read = streamed(plan, one, other)
    (data,) = one.layers.values()
    assert other.layers == one.layers == {descriptor.digest: data}
    assert descriptor.size == plan.size == len(data) == one.begun[0]
    assert descriptor.digest.hex == sha256(data).hexdigest()
    assert sums == {name: sha256(content).hexdigest() for name, content in files.items()}
    assert read == sum(map(len, files.values()))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar if m.isfile()} == {
            f"models/{name}": content for name, content in files.items()
        }


def test_a_file_is_opened_and_read_once_for_all_sinks(tmp_path, monkeypatch):
    write_model(tmp_path / "m", {"a": os.urandom(3 * BLOCK)})
    opened, read, real = [], [], os.readv
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(path) or real_open(path, *rest))
    monkeypatch.setattr(os, "readv", lambda fd, rooms: read.append(real(fd, rooms)) or read[-1])
    plan = plan_of(tmp_path / "m")
    streamed(plan, Keeper(), Keeper(), Keeper())
    assert opened == [str(tmp_path / "m" / "a")]
    assert sum(read) == 3 * BLOCK


def change_while_read(monkeypatch, change):
    """Call `change` when the second block of the file is asked for."""
    real, calls = os.readv, []

    def readv(descriptor, rooms):
        calls.append(descriptor)
        if len(calls) == 2:
            change()
        return real(descriptor, rooms)

    monkeypatch.setattr(os, "readv", readv)


def append(path):
    with path.open("ab") as file:
        file.write(b"more")


def replace(path):
    (path.parent.parent / "new").write_bytes(path.read_bytes())
    (path.parent.parent / "new").replace(path)


def rewrite(path):
    with path.open("r+b") as file:
        file.write(b"other")


@pytest.mark.parametrize("change", [append, rewrite, lambda path: os.truncate(path, BLOCK), os.utime])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path, monkeypatch, change):
    path = write_model(tmp_path / "m", {"a": os.urandom(3 * BLOCK)}) / "a"
    plan = plan_of(tmp_path / "m")
    time.sleep(0.02)  # beyond the resolution of the file's times
    change_while_read(monkeypatch, lambda: change(path))
    with pytest.raises(UnusableInputError, match="`a` changed while it was read"):
        streamed(plan, Keeper())


@pytest.mark.parametrize("change", [append, replace, rewrite, os.utime, lambda path: os.truncate(path, 1)])
def test_a_file_that_changes_before_it_is_read_is_named(tmp_path, change):
    path = write_model(tmp_path / "m", {"a": b"1234567"}) / "a"
    plan = plan_of(tmp_path / "m")
    time.sleep(0.02)
    change(path)
    with pytest.raises(UnusableInputError, match="`a` changed while it was read"):
        streamed(plan, Keeper())


@pytest.mark.parametrize("becomes", ["nothing", "a link", "a fifo"])
def test_a_file_that_becomes_something_else_is_refused_without_hanging(tmp_path, becomes):
    path = write_model(tmp_path / "m", {"a": b"1", "b": b"2"}) / "a"
    plan = plan_of(tmp_path / "m")
    path.unlink()
    if becomes == "a link":
        path.symlink_to("/etc/passwd")
    elif becomes == "a fifo":
        os.mkfifo(path)
    with pytest.raises(UnusableInputError, match="`a`"):
        streamed(plan, Keeper())


def test_a_failing_read_names_the_file(tmp_path, monkeypatch):
    write_model(tmp_path / "m", {"a": os.urandom(BLOCK)})
    plan = plan_of(tmp_path / "m")

    def fail(descriptor, rooms):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", fail)
    with pytest.raises(DeployError, match="`a` cannot be read at byte 0: Input/output error"):
        streamed(plan, Keeper())


class Failing(Keeper):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def begin(self, layer):
        if self.at == "begin":
            raise DeployError("no room at begin")
        super().begin(layer)

    def write(self, block):
        if self.at == "write":
            raise DeployError("no room at write")
        super().write(block)

    def end(self, digest):
        if self.at == "end":
            raise DeployError("no room at end")
        super().end(digest)


@pytest.mark.parametrize("at", ["begin", "write", "end"])
@pytest.mark.parametrize("size", [1, 20 * BLOCK])
def test_the_first_thing_that_went_wrong_in_a_sink_is_what_is_told(tmp_path, at, size):
    write_model(tmp_path / "m", {"a": bytes(size)})
    with pytest.raises(DeployError, match=f"no room at {at}"):
        streamed(plan_of(tmp_path / "m"), Keeper(), Failing(at))


def test_a_full_place_stops_the_read_early(tmp_path, monkeypatch):
    """However late its thread comes to say so: what was read waits for it, in memory that has an end."""
    write_model(tmp_path / "m", {"a": bytes(31 * BLOCK)})
    read, real = [], os.readv
    monkeypatch.setattr(os, "readv", lambda fd, rooms: read.append(real(fd, rooms)) or read[-1])
    with pytest.raises(DeployError), ModelStream(lambda count: None, blocks=4) as stream:
        stream.layer(plan_of(tmp_path / "m"), [Failing("begin")])
    assert sum(read) <= 4 * BLOCK


def test_a_sink_that_hangs_does_not_keep_the_program(tmp_path, monkeypatch):
    write_model(tmp_path / "m", {"a": bytes(20 * BLOCK)})
    release = threading.Event()

    class Hanging(Keeper):
        def write(self, block):
            release.wait()

    class Interrupting(Keeper):
        def write(self, block):
            raise KeyboardInterrupt

    monkeypatch.setattr(stream_module, "_PATIENCE", 0.05)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        streamed(plan_of(tmp_path / "m"), Interrupting(), Hanging())
    assert time.monotonic() - started < 20
    release.set()


def test_memory_does_not_grow_with_the_layer():
    plan = LayerPlan(entries=tuple(Text(name=f"t{n}", data=bytes(BLOCK)) for n in range(3)))
    seen = set()

    class Watching(Keeper):
        def write(self, block):
            seen.add(id(block.obj))

    with ModelStream(lambda count: None) as stream:
        for _ in range(20):
            stream.layer(plan, [Watching()])
        stream.finish()
    assert len(seen) <= 24


def test_no_thread_is_left(tmp_path):
    write_model(tmp_path / "m", {"a": b"1"})
    before = threading.enumerate()  # those that other tests have left may end meanwhile
    streamed(plan_of(tmp_path / "m"), Keeper())
    assert set(threading.enumerate()) <= set(before)


def test_small_files_are_packed_densely(tmp_path):
    root = tmp_path / "m"
    root.mkdir()
    for number in range(2000):
        Path(root / f"f{number:05}").write_bytes(b"%d" % number)
    plan, keeper = plan_of(root), Keeper()
    descriptor, sums, _ = streamed(plan, keeper)
    assert len(sums) == 2000
    assert len(keeper.layers[descriptor.digest]) == 512 + 2000 * 1024 + 1024
