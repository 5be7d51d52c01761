"""From a model's file to a refusal: what a build records, and what a release does with it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_deploy.api.build_model import build_model
from mlops_deploy.api.compat import engine_provides, local_provides, require_fit, require_glance, server_provides
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.errors import RefusedError, UnusableInputError
from mlops_deploy.oci.blobs import LayoutBlobs
from mlops_deploy.oci.check import check
from mlops_deploy.spec.deploy import ServerSpec
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.destination import StoreDestination
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built
from tests.fakes.carriers import Silent, a_build, fake_shell
from tests.unit.api.test_artefact import CARRIER, SPEC

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
PROVIDES = {"python": "3.11.2", "formats": ["joblib"], "packages": {"scikit-learn": "1.9.1", "numpy": "2.4.6"}}
LABELS = {"io.mlops-deploy.provides": json.dumps(PROVIDES)}
OLD = replace(CARRIER, formats=("joblib",), requires=("numpy", "scikit-learn~=1.5.2"))
KSERVE = known_preset("kserve-sklearn")


@pytest.fixture
def store(tmp_path):
    return LayoutStore(tmp_path / "store")


def entry(carrier):
    return Built(
        time="2026-01-01T00:00:00+00:00",
        name=carrier.metadata.card.name,
        digest=str(carrier.digest),
        content_id=carrier.content_id.hex,
        tags=("digits:1",),
        source="",
    )


def built(tmp_path, store, path, **card):
    build = a_build(path, fake_shell(tmp_path), **card)
    cache = DigestCache(tmp_path / "cache" / "digests.sqlite")
    return build_model(build, [StoreDestination(store, entry)], cache, Silent())


def test_a_build_records_what_the_file_needs(tmp_path, store):
    made = built(tmp_path, store, MODELS / "sklearn-1.5.2.joblib")
    found = store.newest("digits")
    assert (found.formats, found.requires) == (("joblib",), ("numpy", "scikit-learn~=1.5.2"))
    assert b'"formats": ["joblib"],\n  "requires": ["numpy","scikit-learn~=1.5.2"]' in made.carrier.metadata.manifest
    assert check(LayoutBlobs(store.path), found.digest).mismatches == ()


def test_a_build_from_the_cache_is_the_same(tmp_path, store):
    first = built(tmp_path, store, MODELS / "mlflow")
    second = built(tmp_path, store, MODELS / "mlflow")
    assert second.bytes_read == 0
    assert second.carrier.digest == first.carrier.digest
    assert store.newest("digits").formats == ("mlflow", "pickle")


def test_a_declaration_wins_and_the_content_is_the_same(tmp_path, store):
    plain = built(tmp_path, store, MODELS / "sklearn-1.5.2.joblib")
    declared = built(tmp_path, store, MODELS / "sklearn-1.5.2.joblib", requires=("scikit-learn>=1.5",))
    assert store.newest("digits").requires == ("scikit-learn>=1.5", "numpy")
    assert declared.carrier.content_id == plain.carrier.content_id


def test_a_file_that_says_nothing_adds_nothing(tmp_path, store):
    (tmp_path / "weights").write_bytes(bytes(9000))
    made = built(tmp_path, store, tmp_path / "weights")
    assert b"formats" not in made.carrier.metadata.manifest
    assert not any(label.endswith((".formats", ".requires")) for label in made.carrier.metadata.labels())


def test_another_minor_version_is_refused_with_the_way_out():
    story = Silent()
    with pytest.raises(RefusedError) as refused:
        require_fit(SPEC, OLD, "server:1", server_provides(LABELS, KSERVE), story)
    assert refused.value.exit_code == 9
    assert refused.value.message == (
        f"the model `digits@{'1' * 12}` does not fit the server `server:1`: it needs `scikit-learn~=1.5.2`, "
        "the server has scikit-learn 1.9.1"
    )
    assert "build-server --constraints FILE" in refused.value.hint
    assert "scikit-learn 1.9.1" in refused.value.hint


def test_every_reason_is_told():
    carrier = replace(OLD, formats=("onnx",), requires=("scikit-learn~=1.5.2", "xgboost"))
    with pytest.raises(RefusedError) as refused:
        require_fit(SPEC, carrier, "server:1", server_provides(LABELS, KSERVE), Silent())
    assert "format onnx" in refused.value.message
    assert len(refused.value.detail) == 2


def test_a_warning_goes_on_where_that_is_wanted():
    story = Silent()
    require_fit(replace(SPEC, compat="warn"), OLD, "server:1", server_provides(LABELS, KSERVE), story)
    assert len(story.warned) == 1
    assert "does not fit" in story.warned[0]


def test_what_fits_is_silent_and_what_nearly_fits_is_not():
    story = Silent()
    fits = replace(OLD, requires=("scikit-learn~=1.9.1", "numpy>=2"))
    require_fit(SPEC, fits, "server:1", server_provides(LABELS, KSERVE), story)
    assert story.warned == []
    require_fit(SPEC, replace(fits, requires=("numpy>=2.3.0",)), "server:1", server_provides(LABELS, KSERVE), story)
    assert "the model was made with 2.3.0" in story.warned[0]


def test_what_nobody_says_is_told_once_and_is_no_warning_of_a_server_that_nobody_has_seen():
    story = Silent()
    require_fit(SPEC, OLD, "server:1", None, story)
    assert len(story.warned) == 1
    assert story.said == []
    require_fit(SPEC, OLD, "server:1", None, story, seen=False)
    assert len(story.warned) == 1
    (line,) = story.said
    assert line.startswith("not checked: whether the server `server:1`, which nobody shows, has `format joblib`")
    assert "`scikit-learn~=1.5.2`" in line


def test_a_glance_at_the_server_refuses_as_a_plan_does():
    spec = replace(SPEC, preset="kserve-sklearn")
    with pytest.raises(RefusedError):
        require_glance(spec, OLD, "server:1", LABELS, Silent())
    require_glance(replace(spec, compat="warn"), OLD, "server:1", LABELS, Silent())
    with pytest.raises(UnusableInputError, match="is a carrier"):
        require_glance(spec, OLD, "server:1", {"io.mlops-deploy.content": "sha256:1"}, Silent())


def test_without_a_glance_the_table_of_the_preset_counts():
    spec, story = replace(SPEC, preset="kserve-sklearn"), Silent()
    require_glance(spec, OLD, "server:1", None, story)
    assert (len(story.said), story.warned) == (1, [])
    with pytest.raises(RefusedError):
        require_glance(spec, replace(OLD, formats=("onnx",)), "server:1", None, story)


@pytest.mark.parametrize("label", ["", "[", "[]", "3", "[" * 100_000])
def test_a_damaged_label_says_nothing(label):
    assert server_provides({"io.mlops-deploy.provides": label}, None) is None
    assert server_provides({"io.mlops-deploy.provides": label}, KSERVE).formats == ("joblib", "pickle", "skops")


def test_the_engine_is_asked_for_the_very_image(monkeypatch):
    asked = []

    class Engine:
        def labels(self, ref):
            asked.append(ref)
            return LABELS

    class Artefact:
        server, server_id = "server:1", "sha256:5"

    provides = engine_provides(replace(SPEC, preset="kserve-sklearn"), Engine, Artefact)
    assert (asked, provides.packages["scikit-learn"]) == (["sha256:5"], "1.9.1")
    carried = LABELS | {"io.mlops-deploy.content": "sha256:1"}
    monkeypatch.setattr(Engine, "labels", lambda _, __: carried)
    with pytest.raises(UnusableInputError, match="`server:1` is a carrier"):
        engine_provides(SPEC, Engine, Artefact)


def test_a_server_made_here_has_what_its_constraints_pin(tmp_path):
    (tmp_path / "c.txt").write_text("# all\nScikit_learn == 1.5.2 ; python_version > '3'\nnumpy==2.0.0\n-r other.txt\n")
    spec = replace(SPEC, preset="kserve-sklearn", server=ServerSpec(constraints=tmp_path / "c.txt"))
    provides = local_provides(spec)
    assert provides.packages["scikit-learn"] == "1.5.2"
    assert provides.packages["python"].startswith("3.")
    require_fit(spec, OLD, "server", provides, Silent())
    with pytest.raises(RefusedError):
        require_fit(spec, OLD, "server", local_provides(replace(spec, server=ServerSpec())), Silent())


def test_a_file_that_was_cut_off_is_told_at_every_build_and_taken_as_it_is(tmp_path, store):
    folder, story = tmp_path / "m", Silent()
    folder.mkdir()
    whole = (MODELS / "plain.safetensors").read_bytes()
    for number in range(5):
        (folder / f"{number}.safetensors").write_bytes(whole[: -number or None])
    build = a_build(folder, fake_shell(tmp_path))
    cache = DigestCache(tmp_path / "cache" / "digests.sqlite")
    for _ in range(2):
        build_model(build, [StoreDestination(store, entry)], cache, story)
    assert len(story.warned) == 8
    assert story.warned[0].startswith("`1.safetensors` may be damaged: it ends before")
    assert story.warned[3] == "1 more file may be damaged"
    assert check(LayoutBlobs(store.path), store.newest("digits").digest).mismatches == ()
