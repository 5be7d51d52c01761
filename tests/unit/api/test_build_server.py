import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlops_deploy.adapters.process import Finished
from mlops_deploy.api.build_server import OWN_BASE, PULLED_BASE, build_server
from mlops_deploy.api.server_inputs import ServerBuild, inputs_digest, known_preset, server_tag
from mlops_deploy.errors import InterruptedByUserError, UnreachableError, UnusableInputError
from mlops_deploy.spec.recipe import ImageFacts
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.spec.secret import Secret

BUILD = ServerBuild(preset=known_preset("kserve-sklearn"))
PROVIDES = {"python": "3.11.2"}


@dataclass
class Silent:
    def __post_init__(self):
        self.told = []

    def say(self, text):
        self.told.append(text)

    warn = say


class Builder:
    """An engine in memory: images by id and by name, and every build that it was asked for."""

    def __init__(self, *bases):
        self.images, self.names, self.recipes, self.contents = {}, {}, [], []
        self.fault = {}
        self.ids = itertools.count(1)
        self.code = 0
        for name in bases:
            self.make(name, {})

    def make(self, name, labels):
        facts = ImageFacts(id=Digest(f"{next(self.ids):064x}"), size=1, labels=labels)
        self.images[facts.id] = facts
        if name:
            self.names[name] = facts.id
        return facts.id

    def build(self, recipe, on_line):
        on_line("#4 [packages 1/2] RUN install")
        on_line("#4 DONE 0.1s")
        self.recipes.append(recipe)
        sent = {name: {p.name: p.read_text() for p in folder.iterdir()} for name, folder in recipe.contexts.items()}
        self.contents.append(sent)
        if fault := self.fault.get(len(self.recipes)):
            raise fault
        return self.make(str(recipe.tag) if recipe.tag else None, dict(recipe.labels))

    def facts(self, ref):
        return self.images.get(self.names.get(ref))

    def run(self, image, argv):
        assert Digest.parse(image) in self.images
        return Finished(code=self.code, out=json.dumps(PROVIDES) + "\n", err="it does not load\n")

    def remove(self, image):
        del self.images[image]


@pytest.fixture
def builder():
    return Builder(OWN_BASE)


@pytest.fixture
def hook(tmp_path):
    path = tmp_path / "my_steps.py"
    path.write_text("def predict(model, inputs): return inputs\n")
    return path


def test_the_image_gets_its_name_and_labels_only_at_the_end(builder):
    built = build_server(BUILD, builder, Silent())
    first, last = builder.recipes
    assert (first.tag, dict(first.labels)) == (None, {})
    assert last.tag == built.tag == server_tag(BUILD)
    assert json.loads(last.labels["io.mlops-deploy.provides"]) == PROVIDES == built.provides
    assert last.labels["io.mlops-deploy.preset"] == "kserve-sklearn"
    assert replace(last, tag=None, labels={}) == first
    assert set(builder.names) == {OWN_BASE, str(built.tag)}
    assert len(builder.images) == 2


def test_unchanged_inputs_are_not_built_again(builder):
    assert build_server(BUILD, builder, Silent()).built
    assert not build_server(BUILD, builder, Silent()).built
    assert len(builder.recipes) == 2


def test_another_base_under_the_same_name_is_a_change(builder):
    build_server(BUILD, builder, Silent())
    builder.make(OWN_BASE, {})
    assert build_server(BUILD, builder, Silent()).built


def test_an_image_of_the_same_name_that_we_did_not_build_is_replaced(builder):
    builder.make(str(server_tag(BUILD)), {})
    assert build_server(BUILD, builder, Silent()).built


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("fault", [InterruptedByUserError("stop"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_build_that_ends_early_leaves_no_image(builder, step, fault):
    builder.fault = {step: fault}
    with pytest.raises(type(fault)):
        build_server(BUILD, builder, Silent())
    assert set(builder.names) == {OWN_BASE}
    assert len(builder.images) == 1


def test_a_server_that_does_not_start_is_not_named(builder, hook):
    builder.code = 78
    with pytest.raises(UnusableInputError, match="does not start") as caught:
        build_server(replace(BUILD, hook=hook), builder, Silent())
    assert caught.value.detail == ("it does not load",)
    assert set(builder.names) == {OWN_BASE}
    assert len(builder.images) == 1


def test_hook_and_constraints_are_all_that_is_sent_of_their_folders(builder, hook, tmp_path):
    constraints = tmp_path / "frozen.txt"
    constraints.write_text("numpy==2.4.6\n")
    (tmp_path / "credentials").write_text("s3cr3t")
    build_server(replace(BUILD, hook=hook, constraints=constraints), builder, Silent())
    expected = {"hook": {"hook.py": hook.read_text()}, "constraints": {"constraints.txt": "numpy==2.4.6\n"}}
    assert builder.contents == [expected, expected]
    assert builder.recipes[0].args == {"BASE": OWN_BASE, "HOOK": "/opt/hook/hook.py"}
    assert not [path for recipe in builder.recipes for path in recipe.contexts.values() if path.exists()]


def test_index_and_certificates_are_secrets_and_no_input(builder, tmp_path):
    certificates = tmp_path / "ca.pem"
    certificates.write_text("-----BEGIN CERTIFICATE-----\n")
    build = replace(BUILD, index_url=Secret("https://u:s3cr3t@example.com/simple"), ca_bundle=certificates)
    build_server(build, builder, Silent())
    secrets = builder.recipes[0].secrets
    assert secrets["pip.conf"].reveal() == (
        "[global]\nindex-url = https://u:s3cr3t@example.com/simple\ncert = /run/secrets/ca.crt\n"
    )
    assert secrets["ca.crt"] == certificates
    assert "s3cr3t" not in repr(builder.recipes)
    assert server_tag(build) == server_tag(BUILD)


def test_the_name_follows_from_every_input(hook, tmp_path):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("numpy==2.4.6\n")
    builds = [
        BUILD,
        replace(BUILD, hook=hook),
        replace(BUILD, constraints=constraints),
        replace(BUILD, base="python:3.12-slim"),
    ]
    assert len({str(server_tag(build)) for build in builds}) == len(builds)
    before = server_tag(replace(BUILD, hook=hook))
    hook.write_text(hook.read_text() + "# changed\n")
    assert server_tag(replace(BUILD, hook=hook)) != before


def test_the_name_is_the_presets_with_twelve_digits_of_the_inputs():
    assert server_tag(BUILD) == ImageRef(name="mlops-server-kserve-sklearn", tag=inputs_digest(BUILD)[:12])
    assert server_tag(replace(BUILD, tag=ImageRef(name="ours"))) == ImageRef(name="ours", tag=inputs_digest(BUILD)[:12])
    assert server_tag(replace(BUILD, tag=ImageRef(name="ours", tag="1"))) == ImageRef(name="ours", tag="1")


def test_what_python_leaves_behind_is_no_input():
    before = inputs_digest(BUILD)
    left = BUILD.recipe / "mlops_server" / "__pycache__" / "left.cpython-311.pyc"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"x")
    try:
        assert inputs_digest(BUILD) == before
    finally:
        left.unlink()


def test_the_base_is_our_own_where_it_is_there_and_pulled_otherwise():
    assert build_server(BUILD, Builder(OWN_BASE, PULLED_BASE), Silent()).base == OWN_BASE
    assert build_server(BUILD, Builder(PULLED_BASE), Silent()).base == PULLED_BASE
    story = Silent()
    assert build_server(BUILD, Builder(), story).base == PULLED_BASE
    assert "will be pulled" in story.told[0]


def test_a_base_that_is_not_there_names_the_script_that_makes_one():
    builder = Builder()
    builder.fault = {1: UnreachableError("base image `x` cannot be pulled")}
    with pytest.raises(UnreachableError) as caught:
        build_server(replace(BUILD, base="x"), builder, Silent())
    assert "images/base/build.sh" in caught.value.hint
    assert Path(caught.value.hint.split("`")[1]).is_file()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("def predict(", "hook.py:1` is not Python"), ("x = 1\n", "defines none of"), ("\0", "is not Python")],
)
def test_a_hook_that_cannot_be_one_is_refused_before_anything_is_built(builder, tmp_path, text, expected):
    path = tmp_path / "hook.py"
    path.write_text(text)
    with pytest.raises(UnusableInputError, match=expected):
        build_server(replace(BUILD, hook=path), builder, Silent())
    assert builder.recipes == []


@pytest.mark.parametrize(
    "change",
    [
        {"hook": Path("/nonexistent.py")},
        {"constraints": Path("/nonexistent.txt")},
        {"ca_bundle": Path("/nonexistent.pem")},
        {"ca_bundle": BUILD.recipe / "Dockerfile"},
        {"index_url": Secret("ftp://x")},
        {"index_url": Secret("https://x\nextra-index-url = https://evil")},
    ],
    ids=str,
)
def test_unusable_inputs_are_refused_before_anything_is_built(builder, change):
    with pytest.raises(UnusableInputError):
        build_server(replace(BUILD, **change), builder, Silent())
    assert builder.recipes == []


def test_a_preset_whose_image_is_pulled_has_nothing_to_build(builder):
    pulled = replace(BUILD.preset, build=None, image="vllm/vllm-openai:1")
    with pytest.raises(UnusableInputError, match="nothing to build"):
        build_server(ServerBuild(preset=pulled), builder, Silent())


def test_only_steps_that_are_really_done_are_told(builder):
    story = Silent()
    build_server(BUILD, builder, story)
    assert story.told[1] == "[packages 1/2] RUN install"
