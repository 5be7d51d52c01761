"""Which carrier and which target a file is rendered for, what is told about it, and how the file is written."""

import dataclasses
import os
import re
import resource
from hashlib import sha256
from pathlib import Path

import pytest

from mlops_deploy.api.freshness import MOST_READ, freshness
from mlops_deploy.api.render import (
    choose_carrier,
    choose_server,
    tell_changes,
    tell_choice,
    write,
)
from mlops_deploy.api.renderers import RENDERERS, choose_target
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.types import INDEX, Descriptor
from mlops_deploy.spec.deploy import ModelSpec, ServerSpec
from mlops_deploy.spec.refs import ContentId, Digest, ImageRef
from mlops_deploy.spec.rendered import JobImage, Rendered
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built


@pytest.fixture
def store(tmp_path):
    store = LayoutStore(tmp_path / "store")
    store.create()
    return store


def nobody():
    raise AssertionError("no registry is named here")


def test_the_newest_carrier_of_the_model_is_taken(spec, store):
    built(store, "digits", "a")
    built(store, "digits", "b")
    built(store, "wine", "c")
    assert choose_carrier(spec, store, None, nobody).digest == Digest("b" * 64)


@pytest.mark.parametrize("asked", ["digits:v1", "a" * 12, f"digits@sha256:{'a' * 64}", "digits:" + "a" * 12])
def test_an_older_carrier_is_taken_by_tag_digest_or_digits(spec, store, asked):
    built(store, "digits", "a", tags=("digits:v1",))
    built(store, "digits", "b")
    assert choose_carrier(spec, store, asked, nobody).digest == Digest("a" * 64)


def test_without_a_carrier_the_error_names_build_model(spec, store):
    with pytest.raises(UnusableInputError, match="no carrier of model `digits`") as caught:
        choose_carrier(spec, store, None, nobody)
    assert "mlops-deploy build-model" in caught.value.hint


def test_a_carrier_of_another_model_is_refused(spec, store):
    built(store, "wine", "c")
    with pytest.raises(UnusableInputError, match="carries the model `wine`; service `digits` serves `digits`"):
        choose_carrier(spec, store, "c" * 12, nobody)


def test_the_target_is_the_asked_one_then_the_configured_one_then_docker(spec):
    assert choose_target(spec, None) == "docker"
    assert choose_target(spec, "compose") == "docker"
    assert choose_target(dataclasses.replace(spec, target="nomad"), "docker") == "docker"


@pytest.mark.parametrize(("configured", "asked"), [("process", None), ("docker", "process")])
def test_a_target_without_a_job_file_is_refused(spec, configured, asked):
    with pytest.raises(UnusableInputError, match=f"target `{asked or configured}` cannot be rendered"):
        choose_target(dataclasses.replace(spec, target=configured), asked)


def test_the_server_is_the_asked_one_then_the_configured_one_then_what_build_server_makes(spec, preset):
    configured = dataclasses.replace(spec, server=ServerSpec(image="example/server:1"))
    assert choose_server(configured, preset, "example/other:2") == JobImage(ref="example/other:2", local=False)
    assert choose_server(configured, preset, None) == JobImage(ref="example/server:1", local=False)
    made = choose_server(spec, preset, None)
    assert made.local
    assert re.fullmatch(r"mlops-server-kserve-sklearn:[0-9a-f]{12}", made.ref)


def test_a_hook_gives_another_server_and_a_missing_one_is_refused(spec, preset, tmp_path):
    hook = tmp_path / "hook.py"
    hooked = dataclasses.replace(spec, server=ServerSpec(hook=hook))
    with pytest.raises(UnusableInputError, match="is not a file"):
        choose_server(hooked, preset, None)
    hook.write_text("def predict(model, inputs):\n    return inputs\n")
    assert choose_server(hooked, preset, None) != choose_server(spec, preset, None)


def test_the_file_names_the_carrier_by_its_digest_and_says_which(spec, store, image, preset):
    story = Story()
    carrier = built(store, "digits", "b", tags=("registry.example.com/ml/digits:v1",))
    text = RENDERERS["docker"].alone(spec, carrier, image, preset, Path("-")).text
    tell_choice(spec, carrier, image, story)
    assert "image: registry.example.com/ml/digits:bbbbbbbbbbbb\n" in text
    assert story.said[0].startswith("model digits@111111111111: carrier `registry.example.com/ml/digits:bbbbbbbbbbbb`")


class TestFreshness:
    def test_the_same_files_are_the_same_without_a_cache(self, tmp_path):
        model, content = model_of(tmp_path, b"weights")
        assert freshness(model, content, DigestCache(None)) == "same"

    def test_other_bytes_are_a_change_although_size_and_time_are_the_same(self, tmp_path):
        model, content = model_of(tmp_path, b"weights")
        before = model.stat()
        model.write_bytes(b"WEIGHTS")
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert freshness(model, content, DigestCache(None)) == "changed"

    def test_large_files_of_unknown_content_are_not_read(self, tmp_path):
        model, content = model_of(tmp_path, b"")
        os.truncate(model, MOST_READ + 1)
        assert freshness(model, content, DigestCache(None)) == "touched"

    def test_a_model_that_is_not_here_says_nothing(self, tmp_path):
        assert freshness(tmp_path / "nothing", ContentId("1" * 64), DigestCache(None)) == "absent"

    def test_a_change_is_told_with_the_next_command(self, tmp_path, spec, store):
        model, _ = model_of(tmp_path, b"weights")
        story = Story()
        here = dataclasses.replace(spec, model=ModelSpec(path=model, name="digits"))
        tell_changes(here, built(store, "digits", "a"), DigestCache(None), story)
        assert story.warned == [f"`{model}` has changed since; `mlops-deploy build-model` builds a new carrier"]


class TestWrite:
    RENDERED = Rendered(target="docker", project="digits", text="name: digits\n")

    def test_the_file_is_replaced_whole_and_nothing_else_is_left(self, tmp_path):
        (tmp_path / "compose.yml").write_text("old")
        write(self.RENDERED, tmp_path / "compose.yml")
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"compose.yml": "name: digits\n"}

    def test_a_link_stays_and_its_file_is_written(self, tmp_path):
        (tmp_path / "link.yml").symlink_to("compose.yml")
        write(self.RENDERED, tmp_path / "link.yml")
        assert (tmp_path / "link.yml").is_symlink()
        assert (tmp_path / "compose.yml").read_text() == "name: digits\n"

    def test_a_device_stays_a_device(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            write(self.RENDERED, pipe)
            assert os.read(reader, 100) == b"name: digits\n"
        finally:
            os.close(reader)
        assert pipe.is_fifo()

    def test_a_folder_is_refused(self, tmp_path):
        with pytest.raises(UnusableInputError, match="is a folder") as caught:
            write(self.RENDERED, tmp_path)
        assert caught.value.hint == f"`-o {tmp_path / 'compose.yml'}`"

    def test_a_folder_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(UnusableInputError, match="there is no folder") as caught:
            write(self.RENDERED, tmp_path / "absent" / "compose.yml")
        assert caught.value.hint == f"`mkdir -p {tmp_path / 'absent'}`"

    def test_a_full_disk_leaves_the_old_file(self, tmp_path):
        (tmp_path / "compose.yml").write_text("old")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
        try:
            with pytest.raises(DeployError, match="cannot be written: file too large"):
                write(self.RENDERED, tmp_path / "compose.yml")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"compose.yml": "old"}


class Story:
    def __init__(self):
        self.said, self.warned = [], []

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)


def built(store, name, digit, tags=()):
    digest = Digest(digit * 64)
    entry = Built(
        time=f"2026-01-0{len(list(store.builds())) + 1}T00:00:00Z",
        name=name,
        digest=str(digest),
        content_id="1" * 64,
        tags=tags,
        source="/nowhere",
    )
    refs = [ImageRef.parse(tag) for tag in tags] or [ImageRef(name=name, tag=digest.short)]
    store.record(entry, refs, Descriptor(media_type=INDEX, digest=digest, size=1))
    return next(store.builds())


def model_of(folder, data):
    model = folder / "model.bin"
    model.write_bytes(data)
    return model, ContentId(sha256(f"{sha256(data).hexdigest()}  ./model.bin\n".encode()).hexdigest())
