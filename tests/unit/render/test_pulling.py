"""A bootstrap that pulls: what it is told, what it may read, and that nothing else of a job is another."""

import dataclasses
import json

import kubernetes_validate
import pytest

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.compose import render_compose
from mlops_deploy.render.hcl import hcl
from mlops_deploy.render.kubernetes import render_kubernetes, render_slots
from mlops_deploy.render.layout import read_objects
from mlops_deploy.render.nomad import document
from mlops_deploy.render.slots import slot_document, slot_job, slot_text
from mlops_deploy.spec.kubernetes import KubernetesSpec, KubernetesVolume
from mlops_deploy.spec.nomad import NomadSpec, NomadVolume
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.registry import RegistrySpec
from mlops_deploy.spec.rendered import JobImage

CONTENT, KEY = "1" * 64, "9" * 64
OWNER = Owner(service="digits", environment="test")
PULLER = JobImage(ref="mlops-puller:0123456789ab", local=True)
ON_NODE = RegistrySpec(credentials="/etc/mlops/$registry.json", ca="/etc/ssl/ca.crt", insecure=True)
IN_CLUSTER = RegistrySpec(credentials="registry-login", ca="our-ca")
REF = f"registry.example.com:5000/team/digits@sha256:0123456789ab{'c' * 52}"
TOLD = {"MODEL_REF": REF, "MODEL_ID": CONTENT, "MODEL_VOLUME": "/model"}


@pytest.fixture
def carrier(carrier):
    name = "registry.example.com:5000/team/digits"
    return dataclasses.replace(carrier, name=name, local=False, puller=PULLER)


@pytest.fixture
def spec(spec):
    return dataclasses.replace(spec, bootstrap="pull")


@pytest.fixture
def preset(preset):
    ready = dataclasses.replace(preset.ready, endpoint="/v2/models/{name}/ready")
    return dataclasses.replace(preset, ready=ready, live="/v2/health/live")


def of_node(spec):
    return dataclasses.replace(spec, registry=ON_NODE)


def of_cluster(spec, **changes):
    return dataclasses.replace(spec, registry=IN_CLUSTER, **changes)


def test_the_files_are_as_reviewed(spec, job, golden):
    golden("pull-slot.yml", slot_text(OWNER, "a", slot_job(of_node(spec), *job), content=CONTENT, key=KEY))
    golden("pull.nomad.hcl", hcl(document(of_node(spec), *job)))
    golden("pull-kubernetes.yml", render_kubernetes(of_cluster(spec), *job).text)


def test_only_the_bootstrap_is_another(spec, job):
    copying = dataclasses.replace(job[0], puller=None), *job[1:]
    pulls, copies = (slot_job(spec, *one) for one in (job, copying))
    assert pulls["server"] == copies["server"]
    rest = {"image", "pull_policy", "environment", "network_mode"}
    assert {key: value for key, value in pulls["bootstrap"].items() if key not in rest} == {
        key: value for key, value in copies["bootstrap"].items() if key not in rest
    }, "the same user, without rights, on a root that cannot be written"
    assert pulls["bootstrap"]["environment"] == TOLD
    assert "network_mode" not in pulls["bootstrap"]
    assert slot_document(OWNER, "a", pulls, content=CONTENT, key=KEY)["networks"] == {
        "default": {"name": "digits-test-a", "external": True}
    }, "it reaches the registry by the slot's own network"


def test_what_is_not_said_is_not_told(spec, job):
    (task, _) = document(spec, *job)["TaskGroups"][0]["Tasks"]
    assert task["Env"] == TOLD | {"MODEL_VOLUME": "/alloc/data/model"}
    assert [mount["type"] for mount in task["Config"]["mount"]] == ["tmpfs"]
    assert "network_mode" not in task["Config"]
    assert task["Config"]["image"] == PULLER.ref


@pytest.mark.parametrize("kind", ["alloc", "host", "dynamic"])
def test_every_volume_of_a_cluster_is_filled_where_the_server_reads_it(spec, job, kind):
    volume = NomadVolume(kind=kind, name="models" if kind == "host" else None)
    spec = dataclasses.replace(of_node(spec), nomad=NomadSpec(volume=volume))
    (task, _) = document(spec, *job)["TaskGroups"][0]["Tasks"]
    assert task["Env"]["MODEL_VOLUME"] == ("/alloc/data/model" if kind == "alloc" else "/model")
    files = {mount["source"]: mount["readonly"] for mount in task["Config"]["mount"] if "source" in mount}
    assert files == {"/etc/mlops/$registry.json": True, "/etc/ssl/ca.crt": True}
    assert hcl(document(spec, *job)), "HCL and the form of the API say the same"


def test_only_the_registry_of_the_carrier_is_insecure(spec, job):
    environment = slot_job(of_node(spec), *job)["bootstrap"]["environment"]
    assert environment["MLOPS_DEPLOY_INSECURE_REGISTRIES"] == "registry.example.com:5000"


PROXIED = RegistrySpec(proxy="http://proxy.example.com:3128", no_proxy="registry.internal, 10.0.0.0/8")
PROXY = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), PROXIED.proxy) | dict.fromkeys(
    ("NO_PROXY", "no_proxy"), PROXIED.no_proxy
)


def test_the_bootstrap_alone_is_told_of_a_proxy(spec, job):
    spec = dataclasses.replace(spec, registry=PROXIED)
    assert slot_job(spec, *job)["bootstrap"]["environment"] == TOLD | PROXY
    assert render_compose(spec, *job).text.count(PROXIED.proxy) == 4
    (prestart, server) = document(spec, *job)["TaskGroups"][0]["Tasks"]
    assert prestart["Env"] == TOLD | PROXY | {"MODEL_VOLUME": "/alloc/data/model"}
    assert hcl(document(spec, *job)).count(PROXIED.proxy) == 4
    assert not server["Env"].keys() & PROXY.keys()
    for text in (render_kubernetes(spec, *job).text, render_slots(spec, *job)["a.yml"].text):
        deployment, *_ = read_objects(text)
        kubernetes_validate.validate(deployment, "1.31", strict=True)
        (init,) = deployment["spec"]["template"]["spec"]["initContainers"]
        assert {one["name"]: one["value"] for one in init["env"]} == TOLD | PROXY
        assert text.count(PROXIED.proxy) == 4


def test_one_that_copies_has_no_use_for_a_proxy(spec, job):
    spec = dataclasses.replace(spec, registry=PROXIED)
    job = dataclasses.replace(job[0], puller=None), *job[1:]
    for text in (render_compose(spec, *job).text, hcl(document(spec, *job)), render_kubernetes(spec, *job).text):
        assert PROXIED.proxy not in text
        assert "NO_PROXY" not in text


def test_a_file_that_is_missing_is_not_made_a_folder(spec, job):
    _, *files = slot_job(of_node(spec), *job)["bootstrap"]["volumes"]
    assert all(one["bind"] == {"create_host_path": False} and one["read_only"] for one in files)


def test_objects_are_valid_and_name_a_secret_and_a_config_map(spec, job):
    for text in (render_kubernetes(of_cluster(spec), *job).text, render_slots(of_cluster(spec), *job)["a.yml"].text):
        deployment, *_ = read_objects(text)
        kubernetes_validate.validate(deployment, "1.31", strict=True)
        pod = deployment["spec"]["template"]["spec"]
        (init,) = pod["initContainers"]
        told = {one["name"]: one["value"] for one in init["env"]}
        credentials, ca = told.pop("REGISTRY_AUTH_FILE"), told.pop("SSL_CERT_FILE")
        assert told == TOLD
        assert [one["mountPath"] for one in init["volumeMounts"]] == ["/model", credentials, ca]
        volumes = {one["name"]: one for one in pod["volumes"]}
        assert volumes["credentials"]["secret"]["secretName"] == "registry-login"
        assert volumes["ca"]["configMap"]["name"] == "our-ca"
        assert "credentials" not in json.dumps(pod["containers"]), "the server sees neither"


def test_an_image_volume_is_not_filled(spec, job):
    image = KubernetesSpec(volume=KubernetesVolume(kind="image"))
    with pytest.raises(UnusableInputError, match="the carrier is mounted itself"):
        render_kubernetes(of_cluster(spec, kubernetes=image), *job)


def test_what_is_named_for_another_target_is_refused(spec, job):
    with pytest.raises(UnusableInputError, match=r"`registry\.credentials` is `registry-login`, which is no path"):
        render_compose(of_cluster(spec), *job)
    with pytest.raises(UnusableInputError, match=r"`registry\.credentials` is `registry-login`, which is no path"):
        document(of_cluster(spec), *job)
    with pytest.raises(UnusableInputError, match="which cannot name a secret"):
        render_kubernetes(of_node(spec), *job)
