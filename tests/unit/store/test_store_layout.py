import json
import threading

import pytest

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.types import INDEX, Descriptor
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built


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


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"[]", b"5", b"\xff"])
def test_an_index_that_cannot_be_read_is_not_overwritten(store, garbage):
    record(store, 1)
    (store.path / "index.json").write_bytes(garbage)
    for deed in (lambda: record(store, 2), lambda: store.find("digits")):
        with pytest.raises(DeployError, match=r"index\.json` cannot be read") as caught:
            deed()
        assert caught.value.hint
    assert (store.path / "index.json").read_bytes() == garbage


@pytest.mark.parametrize("odd", [{"manifests": 5}, {"manifests": [5, {}, {"annotations": 3}]}, {}])
def test_an_odd_index_gives_no_traceback(store, odd):
    (store.path / "index.json").write_text(json.dumps(odd))
    digest = record(store, 1)
    assert store.find("digits").digest == digest


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
