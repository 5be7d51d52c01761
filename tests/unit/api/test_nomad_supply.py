"""How a job on Nomad names its images, and when the user is warned that clients may remove them."""

import dataclasses
import json

import pytest

from mlops_deploy.api.compat import preset_provides
from mlops_deploy.api.nomad_files import nomad_artefact, nomad_provides, nomad_router, with_warnings
from mlops_deploy.api.nomad_supply import NomadSupply, have_router
from mlops_deploy.api.router_image import nomad_router_image
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.errors import UnreachableError
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.spec.deploy import Resources
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.refs import Digest
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.carriers import Silent
from tests.unit.api.test_artefact import CARRIER, ID, IMAGE, PRESET, SPEC, Engine

PUSHED = JobImage(ref=f"registry.example/server@sha256:{'7' * 64}", local=False)


def images(artefact):
    (group,) = artefact.job["TaskGroups"]
    return {task["Name"]: task["Config"]["image"] for task in group["Tasks"]}


def made(image=IMAGE, server_id=ID, carrier=CARRIER):
    return nomad_artefact(SPEC, carrier, PRESET, image, server_id)


def test_an_image_of_an_engine_is_named_by_what_means_it_alone():
    assert images(made()) == {"bootstrap": f"team/digits:{'b' * 12}", "server": ID}
    assert (made().server, made().server_id) == ("server:1", ID)


def test_an_image_of_a_registry_keeps_the_name_by_which_every_node_can_pull_it():
    pulled = dataclasses.replace(CARRIER, pulled=True, tags=("registry.example/digits:1",))
    found = images(made(PUSHED, carrier=pulled))
    assert found["server"] == PUSHED.ref
    assert found["bootstrap"].endswith(f"@sha256:{'b' * 64}")


def test_the_job_depends_on_no_slot_and_the_router_on_no_address():
    text = json.dumps(made().job)
    assert "digits-live-a" not in text
    assert "digits-live-b" not in text
    config = nomad_router(SPEC, PRESET)
    assert '"${SLOT_A}"' in config
    assert '"${SLOT_B}"' in config


class Told(Silent):
    """Keeps what it is warned of."""

    def __init__(self):
        super().__init__()
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


ENOUGH = dataclasses.replace(SPEC, resources=Resources(memory=64 << 20))


def test_the_user_is_warned_of_what_the_cluster_does_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr("mlops_deploy.api.docker_supply.load_stored", lambda *_: None)
    engine = Engine(**{ID: Digest("5" * 64)})
    spec = dataclasses.replace(ENOUGH, nomad=NomadSpec(pull_timeout=600.0))
    supply = NomadSupply(spec=spec, store=LayoutStore(tmp_path), engine=engine, builder=None, collects=lambda: None)
    story = Told()
    supply.prepare(made(), story)
    (told,) = story.warnings
    assert "hashicorp/nomad#28496" in told


@pytest.mark.parametrize(("said", "warnings"), [(None, []), ("clients remove images", ["clients remove images"])])
def test_the_user_is_warned_of_clients_that_remove_local_images(tmp_path, monkeypatch, said, warnings):
    monkeypatch.setattr("mlops_deploy.api.docker_supply.load_stored", lambda *_: None)
    engine = Engine(**{ID: Digest("5" * 64)})
    supply = NomadSupply(spec=ENOUGH, store=LayoutStore(tmp_path), engine=engine, builder=None, collects=lambda: said)
    story = Told()
    supply.prepare(made(), story)
    assert story.warnings == warnings


class Absent:
    """An engine that does not answer: whoever asks it anything fails."""

    def __getattr__(self, name):
        raise UnreachableError("no Docker Engine answers", hint="start it")


PULLED = dataclasses.replace(CARRIER, pulled=True, tags=("registry.example/digits:1",))


def test_no_engine_and_no_client_is_asked_where_every_image_is_in_a_registry(tmp_path):
    supply = NomadSupply(
        spec=ENOUGH,
        store=LayoutStore(tmp_path),
        engine=Absent(),
        builder=None,
        collects=lambda: pytest.fail("asked"),
    )
    supply.prepare(made(PUSHED, carrier=PULLED), Told())
    with pytest.raises(UnreachableError):
        supply.prepare(made(carrier=PULLED), Told())


def test_the_router_needs_an_engine_unless_it_is_in_a_registry_too():
    pushed = nomad_router_image(NomadSpec(router_image="registry.example/router:1"))
    have_router(pushed, Absent(), None, None, Told())
    with pytest.raises(UnreachableError) as caught:
        have_router(nomad_router_image(NomadSpec()), Absent(), None, None, Told())
    assert "`nomad.router_image`" in caught.value.hint
    assert "start it" in caught.value.hint


def test_what_a_server_provides_is_what_its_preset_does_where_nobody_shows_the_image():
    spec = dataclasses.replace(SPEC, preset="kserve-sklearn")
    assert nomad_provides(spec, Absent, made(PUSHED)) == preset_provides(known_preset("kserve-sklearn"))
    with pytest.raises(UnreachableError):
        nomad_provides(spec, Absent, made())


@pytest.mark.parametrize(
    ("nomad", "artefact", "live", "told"),
    [
        (NomadSpec(), made(PUSHED, carrier=PULLED), None, True),
        (NomadSpec(), made(PUSHED, carrier=PULLED), "a", False),
        (NomadSpec(), made(), None, False),
        (NomadSpec(router_image="registry.example/router:1"), made(PUSHED, carrier=PULLED), None, False),
    ],
)
def test_a_first_plan_of_what_registries_have_tells_of_the_router_which_none_has(nomad, artefact, live, told):
    forecast = with_warnings(dataclasses.replace(ENOUGH, nomad=nomad), lambda *_: Forecast(), lambda: None)
    warned = [line for line in forecast("b", live, artefact).warnings if "`nomad.router_image`" in line]
    assert bool(warned) is told


def test_a_plan_tells_the_same_before_what_the_cluster_says():
    forecast = with_warnings(ENOUGH, lambda *_: Forecast(warnings=("the cluster's",)), lambda: "clients remove images")
    assert forecast("b", "a", made()).warnings == ("clients remove images", "the cluster's")
