"""The image that pulls: named by what it is made of, and of the few modules that it needs."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_deploy.api.artefact import job_carrier
from mlops_deploy.api.docker_files import docker_artefact
from mlops_deploy.api.docker_supply import DockerSupply
from mlops_deploy.api.nomad_files import nomad_artefact, with_warnings
from mlops_deploy.api.puller_image import RECIPE, find_or_build, program, puller_tag
from mlops_deploy.api.renderers import RENDERERS
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.codec import decode, encode
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.state import Artefact
from mlops_deploy.spec.deploy import Resources
from mlops_deploy.spec.recipe import ImageFacts
from mlops_deploy.spec.refs import Digest
from mlops_deploy.spec.registry import RegistrySpec
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.carriers import Silent
from tests.unit.api.test_artefact import CARRIER, ID, IMAGE, PRESET, SPEC, Engine

PULLS = dataclasses.replace(SPEC, bootstrap="pull")
REMOTE = dataclasses.replace(CARRIER, pulled=True, tags=("registry.example.com/team/digits:1",))


class Builder:
    """Keeps what it is to build, and what is in the folders that go with it."""

    def __init__(self):
        self.recipes, self.files = [], set()

    def build(self, recipe, _on_line):
        self.recipes.append(recipe)
        folder = recipe.contexts["program"]
        self.files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        return Digest("ab" * 32)

    def facts(self, ref):
        return ImageFacts(id=Digest("ab" * 32), size=1, labels={}) if "mlops" in ref else None


def test_it_is_built_once_of_exactly_its_files():
    builder = Builder()
    found = find_or_build(Engine(), builder, Silent())
    (recipe,) = builder.recipes
    assert (found.ref, found.local, recipe.tag) == (str(puller_tag()), True, puller_tag())
    assert (recipe.context, recipe.args) == (RECIPE, {"BASE": "mlops-base:bookworm"})
    assert builder.files == set(program())
    find_or_build(Engine(**{str(puller_tag()): ID}), builder, Silent())
    assert len(builder.recipes) == 1


def test_it_holds_what_it_imports_and_no_command_line(tmp_path):
    for name, path in program().items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    (tmp_path / "__main__.py").write_bytes((RECIPE / "__main__.py").read_bytes())
    done = subprocess.run([sys.executable, "-I", "-S", tmp_path], env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (78, "error: MODEL_REF is not set")
    assert {Path(name).parts[0] for name in program()} == {"mlops_deploy", "urllib3"}
    assert not [name for name in program() if "/config/" in name or "wiring" in name or "render/" in name]


def test_a_job_names_the_carrier_in_its_registry_and_the_image_that_pulls():
    made = docker_artefact(PULLS, REMOTE, PRESET, IMAGE, ID)
    assert made.job["bootstrap"]["image"] == made.puller == str(puller_tag())
    assert made.carrier == f"registry.example.com/team/digits@sha256:{'b' * 64}"
    assert decode(Artefact, encode(made)) == made
    assert docker_artefact(SPEC, REMOTE, PRESET, IMAGE, ID).puller is None


def test_a_carrier_of_the_store_that_has_a_name_in_a_registry_is_pulled_from_there():
    stored = dataclasses.replace(CARRIER, tags=("digits:1", "registry.example.com/team/digits:1"))
    assert job_carrier(PULLS, stored).image.ref == f"registry.example.com/team/digits@sha256:{'b' * 64}"


def test_a_carrier_that_is_only_in_the_store_is_refused_with_the_way_out():
    with pytest.raises(UnusableInputError, match=r"`team/digits:bbbbbbbbbbbb` is only in the store") as caught:
        job_carrier(PULLS, CARRIER)
    assert "`mlops-deploy build-model --push REGISTRY/NAME:TAG`" in caught.value.hint
    assert "`--model REGISTRY/NAME:TAG`" in caught.value.hint, "a name without a tag is not what a push sets"


def test_a_release_brings_no_carrier_where_the_job_pulls_it(tmp_path):
    engine, builder = Engine(**{ID: ID}), Builder()
    supply = DockerSupply(spec=PULLS, store=LayoutStore(tmp_path), engine=engine, builder=builder)
    supply.prepare(docker_artefact(PULLS, REMOTE, PRESET, IMAGE, ID), Silent())
    assert [recipe.tag for recipe in builder.recipes] == [puller_tag()]


def test_an_image_in_a_registry_is_left_to_who_runs_it(tmp_path):
    elsewhere = dataclasses.replace(PULLS, registry=RegistrySpec(puller="registry.example.com/ml/puller:1"))
    artefact = docker_artefact(elsewhere, REMOTE, PRESET, IMAGE, ID)
    supply = DockerSupply(spec=elsewhere, store=LayoutStore(tmp_path), engine=Engine(**{ID: ID}), builder=Builder())
    supply.prepare(artefact, Silent())
    assert supply.builder.recipes == []
    assert artefact.job["bootstrap"]["pull_policy"] == "missing"


def test_an_earlier_image_that_is_gone_is_named(tmp_path):
    artefact = dataclasses.replace(
        docker_artefact(PULLS, REMOTE, PRESET, IMAGE, ID), puller="mlops-puller:000000000000"
    )
    supply = DockerSupply(spec=PULLS, store=LayoutStore(tmp_path), engine=Engine(**{ID: ID}), builder=Builder())
    with pytest.raises(UnusableInputError, match="is not in the engine any more"):
        supply.prepare(artefact, Silent())


@pytest.mark.parametrize(("puller", "warned"), [(None, True), ("registry.example.com/ml/puller:1", False)])
def test_clients_that_collect_images_are_told_of_where_the_image_is_local(puller, warned):
    spec = dataclasses.replace(PULLS, registry=RegistrySpec(puller=puller))
    image = dataclasses.replace(IMAGE, ref=f"registry.example.com/server@sha256:{'7' * 64}", local=False)
    artefact = nomad_artefact(spec, REMOTE, PRESET, image, ID)
    told = with_warnings(spec, lambda *_: Forecast(), lambda: "clients collect images")("a", None, artefact)
    assert ("clients collect images" in told.warnings) == warned


@pytest.mark.parametrize("target", ["docker", "nomad", "kubernetes"])
def test_who_renders_is_told_of_an_image_that_is_not_everywhere(target):
    spec = dataclasses.replace(PULLS, resources=Resources(memory=64 << 20))
    elsewhere = dataclasses.replace(spec, registry=RegistrySpec(puller="registry.example.com/ml/puller:1"))
    here, there = (" ".join(RENDERERS[target].warnings(one, REMOTE)) for one in (spec, elsewhere))
    assert str(puller_tag()) in here
    assert "puller" not in there
