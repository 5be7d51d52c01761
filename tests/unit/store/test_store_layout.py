import json
import shutil
import subprocess
import threading

import pytest

from mlops_deploy.api.build_model import build_model
from mlops_deploy.cli.destinations import store_destination
from mlops_deploy.cli.project import Project
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.types import INDEX, Descriptor
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store import layout
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built
from tests.fakes.carriers import Silent, a_build, fake_shell, write_model


@pytest.fixture
def store(tmp_path):
    found = LayoutStore(tmp_path / "store")
    found.create()
    return found


def record(store, number, *tags, name="digits"):
    digest = Digest(f"{number:064x}"[::-1])
    names = [ImageRef.parse(text) for text in tags] + [ImageRef.parse(f"{name}:{digest.short}")]
    entry = Built(
        time=f"2026-01-01T00:00:{len(list(store.builds())):02}+00:00",
        name=name,
        digest=str(digest),
        content_id=f"{number + 1000:064x}"[::-1],
        tags=tuple(map(str, names)),
        source="/models",
    )
    store.record(entry, names, Descriptor(media_type=INDEX, digest=digest, size=1))
    return digest


def names(store):
    index = json.loads((store.path / "index.json").read_bytes())
    return {e["annotations"]["org.opencontainers.image.ref.name"]: e["digest"] for e in index["manifests"]}


def test_an_entry_has_the_tag_and_the_short_name(store):
    digest = record(store, 1, "digits:1.0")
    assert names(store) == {"digits:1.0": str(digest), f"digits:{digest.short}": str(digest)}


def test_the_newest_is_the_last_line_also_when_the_digest_was_there_before(store):
    first = record(store, 1)
    second = record(store, 2)
    assert store.newest("digits").digest == second
    assert record(store, 1) == first
    assert store.newest("digits").digest == first
    assert store.find("digits").digest == first
    assert len(list(store.builds())) == 3


def test_the_newest_of_one_model_is_not_that_of_another(store):
    first = record(store, 1)
    record(store, 2, name="wine")
    assert store.newest("digits").digest == first
    assert store.newest("nothing") is None


def test_a_tag_that_moved_means_where_it_is_now(store):
    first = record(store, 1, "digits:1.0")
    second = record(store, 2, "digits:1.0")
    assert store.find("digits:1.0").digest == second
    assert store.find(f"digits:{first.short}").digest == first
    assert names(store)["digits:1.0"] == str(second)
    record(store, 1, "digits:1.0")
    assert store.find("digits:1.0").digest == first


@pytest.mark.parametrize(
    "text",
    [
        "digits",
        "digits:1.0",
        "digits:{short}",
        "digits@{digest}",
        "digits:1.0@{digest}",
        "{digest}",
        "{hex}",
        "{short}",
    ],
)
def test_every_way_to_name_a_carrier(store, text):
    digest = record(store, 1, "digits:1.0")
    record(store, 2, name="wine")
    assert store.find(text.format(short=digest.short, digest=digest, hex=digest.hex)).digest == digest


def test_a_carrier_is_found_by_its_content_id(store):
    digest = record(store, 1)
    content_id = store.newest("digits").content_id
    assert store.find(content_id.hex).digest == digest
    assert store.find(content_id.short).digest == digest


@pytest.mark.parametrize("text", ["nothing", "digits:2.0", "", "digits:", "A B", "digits@sha256:0", "0" * 11, "../x"])
def test_what_is_not_there_lists_what_is(store, text):
    digest = record(store, 1, "digits:1.0")
    with pytest.raises(UnusableInputError) as caught:
        store.find(text)
    assert f"digits:{digest.short}" in caught.value.hint


def test_an_empty_store_says_how_to_fill_it(store):
    with pytest.raises(UnusableInputError) as caught:
        store.find("digits")
    assert "build-model" in caught.value.hint


def test_a_store_that_is_not_there_is_empty(tmp_path):
    assert LayoutStore(tmp_path / "nothing").newest("digits") is None
    assert not (tmp_path / "nothing").exists()


def test_builds_that_end_at_the_same_time_are_all_named_and_logged(store):
    def often(number):
        for step in range(5):
            record(store, 100 * number + step, f"x{number}:{step}")

    threads = [threading.Thread(target=often, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.builds())) == 30
    assert {f"x{number}:{step}" for number in range(1, 7) for step in range(5)} <= set(names(store))


def test_entries_of_others_stay(store):
    path = store.path / "index.json"
    other = {"mediaType": INDEX, "digest": f"sha256:{'f' * 64}", "size": 3, "annotations": {"x": "y"}}
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": [other], "annotations": {"of": "others"}}))
    record(store, 1)
    index = json.loads(path.read_bytes())
    assert other in index["manifests"]
    assert index["annotations"] == {"of": "others"}


@pytest.mark.parametrize(
    "garbage", [b"", b"garbage", b"[]", b"5", b"\xff", b"{}", b'{"manifests": 3}', b'{"manifests": [{}, 5]}']
)
def test_an_index_that_cannot_be_read_is_not_overwritten(store, garbage):
    record(store, 1)
    (store.path / "index.json").write_bytes(garbage)
    for deed in (lambda: record(store, 2), lambda: store.find("digits")):
        with pytest.raises(DeployError, match=r"index\.json` cannot be read") as caught:
            deed()
        assert caught.value.exit_code == 1
        assert "restore" in caught.value.hint
    assert (store.path / "index.json").read_bytes() == garbage
    assert len((store.path / "log.jsonl").read_text().splitlines()) == 1


def test_odd_entries_of_others_give_no_traceback(store):
    odd = {"schemaVersion": 2, "manifests": [{}, {"annotations": 3}, {"digest": 5}, {"digest": "sha512:0"}]}
    (store.path / "index.json").write_text(json.dumps(odd))
    with pytest.raises(UnusableInputError, match="no carrier") as caught:
        store.find("digits")
    assert "empty" not in caught.value.hint
    digest = record(store, 1)
    assert store.find("digits").digest == digest


def test_names_hold_while_a_build_is_logged_and_not_yet_named(store, monkeypatch):
    first = record(store, 1, "digits:prod")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(layout, "replace_file", killed)
    with pytest.raises(KeyboardInterrupt):
        record(store, 2, "digits:prod")
    monkeypatch.undo()
    assert store.find("digits:prod").digest == first
    second = record(store, 2, "digits:prod")
    assert store.find("digits:prod").digest == second


class TestWithoutALog:
    """A layout that others wrote, or that was copied without its log."""

    @pytest.fixture
    def built(self, store, tmp_path):
        model = write_model(tmp_path / "m", {"a": b"1"})
        build = a_build(model, fake_shell(tmp_path), tags=[ImageRef.parse("digits:1.0")])
        project, carriers = Project(root=tmp_path, spec=None), []
        for data in (b"1", b"2"):
            (model / "a").write_bytes(data)
            place = store_destination(project, build, Silent(), store.path)
            carriers.append(build_model(build, [place], DigestCache(None), Silent()).carrier)
        return carriers

    @pytest.mark.parametrize("log", [None, b"", b'{"time":"20'])
    def test_its_names_are_those_of_the_index(self, store, built, log):
        first, second = built
        (store.path / "log.jsonl").unlink() if log is None else (store.path / "log.jsonl").write_bytes(log)
        for text in ("digits", "digits:1.0", second.digest.short, f"digits@{second.digest}", second.content_id.hex):
            assert store.find(text).digest == second.digest, text
        assert store.find(f"digits:{first.digest.short}").digest == first.digest
        found = store.newest("digits")
        assert (found.content_id, found.image, found.time, found.source) == (second.content_id, "digits", None, None)

    def test_a_name_that_is_a_tag_alone(self, store, built):
        _, second = built
        (store.path / "log.jsonl").unlink()
        entry = second.index.descriptor.as_json(annotations={"org.opencontainers.image.ref.name": "2.0"})
        (store.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        assert store.find("digits:2.0").digest == second.digest
        assert store.find("2.0").digest == second.digest

    def test_what_skopeo_copied(self, store, built, tmp_path):
        if not shutil.which("skopeo"):
            pytest.skip("no skopeo here")
        copy = ["skopeo", "copy", "-q", "--all", "--preserve-digests"]
        subprocess.run([*copy, f"oci:{store.path}:digits:1.0", f"oci:{tmp_path / 'other'}:x:9"], check=True)
        other = LayoutStore(tmp_path / "other")
        assert other.find("x:9").digest == built[1].digest
        assert other.find("digits").tags == ("x:9",)


def test_a_path_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DeployError, match="cannot be written"):
            LayoutStore(path).create()


def test_a_blob_of_another_size_is_not_there(store):
    digest = Digest("0" * 64)
    store.blob_path(digest).write_bytes(b"12")
    assert store.has_blob(Descriptor(media_type="x", digest=digest, size=2))
    assert not store.has_blob(Descriptor(media_type="x", digest=digest, size=3))
