"""What is released: complete, the same for the same inputs, another when anything in it is another."""

import dataclasses
from pathlib import Path

import pytest

from mlops_deploy.api.docker_files import docker_artefact, render_files
from mlops_deploy.api.docker_supply import DockerSupply
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.codec import decode, encode
from mlops_deploy.release.state import Artefact
from mlops_deploy.render.layout import read_back
from mlops_deploy.spec.deploy import DeploySpec, GoldenRequest, ModelSpec, Ready, ReleaseSpec, Resources, ServerSpec
from mlops_deploy.spec.preset import Ports, Preset, Readiness
from mlops_deploy.spec.refs import ContentId, Digest
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.store.layout import LayoutStore, Stored
from tests.fakes.carriers import Silent

GOLDEN = GoldenRequest(request={"inputs": []}, expect=({"name": "y", "data": [1.5]},), tolerance=0.5)
IMAGE = JobImage(ref="server:1", local=True)
PRESET = Preset(
    name="any",
    doc="",
    ports=Ports(http=8080),
    ready=Readiness(
        path="/v2/models/{name}/versions/{id12}/ready",
        endpoint="/v2/models/{name}/ready",
        json={"model.{name}": "{id}"},
        version_in="model_version",
        command=("ready",),
    ),
    allow_paths=("/v2/models/{name}/infer", "/v2/models/{name}/versions/{id12}/infer"),
)
SPEC = DeploySpec(
    root=Path("/nowhere"),
    service="digits",
    environment="live",
    model=ModelSpec(path=Path("/nowhere/model"), name="digits"),
    preset="any",
    server=ServerSpec(),
    target=None,
    port=9000,
    env={"A": "1"},
    resources=Resources(),
    user=None,
    ready=Ready(golden=(GOLDEN,), deadline=7.0),
    release=ReleaseSpec(),
)
CARRIER = Stored(
    name="digits",
    digest=Digest("b" * 64),
    content_id=ContentId("1" * 64),
    tags=("team/digits:1",),
    time=None,
    source=None,
)
ID = f"sha256:{'5' * 64}"


def made(spec=SPEC, carrier=CARRIER, preset=PRESET, server_id=ID):
    return docker_artefact(spec, carrier, preset, IMAGE, server_id)


def test_the_proof_is_of_this_very_model():
    proof = made().proof
    assert proof.endpoint == "/v2/models/digits/ready"
    assert proof.identity == f"/v2/models/digits/versions/{'1' * 12}/ready"
    assert proof.infer == "/v2/models/digits/infer"
    assert (proof.version, proof.version_in, proof.status) == ("1" * 12, "model_version", 200)
    assert proof.json == {"model.digits": "1" * 64}
    assert (proof.golden, proof.deadline) == ((GOLDEN,), 7.0)


def test_it_names_images_so_that_they_cannot_come_to_mean_others():
    artefact = made()
    assert (artefact.carrier, artefact.carrier_digest) == ("team/digits:bbbbbbbbbbbb", Digest("b" * 64))
    assert artefact.job["bootstrap"]["image"] == artefact.carrier
    assert (artefact.server, artefact.server_id) == ("server:1", ID)
    assert (artefact.job["server"]["image"], artefact.job["server"]["pull_policy"]) == (ID, "never")


def test_it_survives_the_ledger():
    assert decode(Artefact, encode(made())) == made()
    assert decode(Artefact, encode(made())).key == made().key


@pytest.mark.parametrize(
    "other",
    [
        made(spec=dataclasses.replace(SPEC, env={"A": "2"})),
        made(spec=dataclasses.replace(SPEC, resources=Resources(memory=1 << 30))),
        made(carrier=dataclasses.replace(CARRIER, digest=Digest("c" * 64))),
        made(carrier=dataclasses.replace(CARRIER, content_id=ContentId("2" * 64))),
        made(server_id=f"sha256:{'6' * 64}"),
    ],
    ids=["env", "resources", "carrier", "content", "server"],
)
def test_what_runs_otherwise_is_another_artefact(other):
    assert other.key != made().key


@pytest.mark.parametrize(
    "same",
    [
        dataclasses.replace(SPEC, port=9001),
        dataclasses.replace(SPEC, release=dataclasses.replace(SPEC.release, bake=1.0)),
    ],
    ids=["port", "bake"],
)
def test_what_is_not_of_the_slot_does_not_make_another(same):
    assert made(spec=same).key == made().key


def test_a_preset_that_a_router_cannot_ask_is_refused():
    blind = dataclasses.replace(PRESET, ready=dataclasses.replace(PRESET.ready, endpoint=None))
    with pytest.raises(UnusableInputError, match=r"preset `any` has no `ready\.endpoint`"):
        made(preset=blind)


def test_the_files_of_a_release_say_the_same_of_both_slots():
    files = {name: read_back(file.text) for name, file in render_files(SPEC, CARRIER, IMAGE, PRESET).items()}
    assert list(files) == ["router.yml", "a.yml", "b.yml"]
    a, b = files["a.yml"]["services"], files["b.yml"]["services"]
    assert a["server"]["environment"] == b["server"]["environment"]
    assert a["server"]["image"] == "server:1", "no engine was asked which one that is"
    config = files["router.yml"]["services"]["router"]["environment"]["ROUTER_CONFIG"]
    assert "digits-live-a:8080" in config
    assert "digits-live-b:8080" in config
    assert "/v2/models/digits/infer" in config


class Engine:
    """An engine that has some images."""

    def __init__(self, **images):
        self.images = images

    def image_id(self, ref):
        return self.images.get(ref)


def test_a_server_that_is_not_in_the_engine_is_named_with_the_way_to_get_it(tmp_path):
    spec = dataclasses.replace(SPEC, preset="kserve-sklearn")
    supply = DockerSupply(spec=spec, store=LayoutStore(tmp_path), engine=Engine(), builder=None)
    with pytest.raises(UnusableInputError, match="is not in the engine") as caught:
        supply.artefact(CARRIER, None)
    assert caught.value.hint == "`mlops-deploy build-server` makes it"
    with pytest.raises(UnusableInputError, match="`other/server:2` is not in the engine") as caught:
        supply.artefact(CARRIER, "other/server:2")
    assert caught.value.hint == "`docker pull other/server:2` gets it"


def test_a_server_that_was_removed_since_is_refused_before_anything_is_loaded(tmp_path):
    supply = DockerSupply(spec=SPEC, store=LayoutStore(tmp_path), engine=Engine(), builder=None)
    with pytest.raises(UnusableInputError, match=r"`server:1` \(sha256:555555555555\) is not in the engine any more"):
        supply.prepare(made(), Silent())
