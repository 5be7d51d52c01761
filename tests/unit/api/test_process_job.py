"""What a slot of local processes runs: the same for the same inputs, without a word of the slot, and it does run."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.processes.target import ProcessTarget
from mlops_deploy.api.build_model import ModelBuild, build_model
from mlops_deploy.api.process_supply import ProcessSupply
from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.blobs import LayoutBlobs
from mlops_deploy.oci.metadata import ModelCard
from mlops_deploy.oci.view import view_images
from mlops_deploy.spec.deploy import DeploySpec, ModelSpec, Ready, ReleaseSpec, Resources, ServerSpec
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.registry import RegistrySpec
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.destination import StoreDestination
from mlops_deploy.store.layout import LayoutStore
from mlops_deploy.store.log import Built
from tests.fakes.carriers import Silent, write_model
from tests.fakes.local_slots import NAME, SERVER, holds, processes_of, until, version
from tests.unit.api.test_bootstrap import static_shell

PRESET = known_preset("kserve-sklearn")
TINY = replace(PRESET, command=(sys.executable, str(SERVER)))
HOOK = "def predict(model, inputs):\n    return model.predict(inputs)\n"


@pytest.fixture
def store(tmp_path):
    """A store with one carrier: of a model that the tiny server reads."""
    store = LayoutStore(tmp_path / "a store")
    store.create()
    files = {"model.json": json.dumps({"weights": [1], "bias": 0}).encode(), "more/weights": b"w" * 100_000}
    card = ModelCard(name=NAME)
    build = ModelBuild(path=write_model(tmp_path / "model", files), card=card, shells=(static_shell(),))

    def entry(carrier):
        said = {"digest": str(carrier.digest), "content_id": str(carrier.content_id)}
        return Built(time="2026-01-01T00:00:00+00:00", name=NAME, tags=(), source="", **said)

    build_model(build, [StoreDestination(store, entry)], DigestCache(None), Silent())
    return store


def a_spec(folder, **changes):
    spec = DeploySpec(
        root=folder,
        service=NAME,
        environment=None,
        model=ModelSpec(path=folder / "model", name=NAME),
        preset=PRESET.name,
        server=ServerSpec(),
        target="process",
        port=9000,
        env={"GREETING": "{hi} $PORT"},
        resources=Resources(),
        user=None,
        ready=Ready(),
        release=ReleaseSpec(),
    )
    return replace(spec, **changes)


def supply(store, *, preset=PRESET, environ=None, **changes):
    folder = store.path.parent
    return ProcessSupply(
        spec=a_spec(folder, **changes),
        preset=preset,
        store=store,
        cache=folder / "servers",
        environ=environ or {},
        launcher=LocalRunner(),
        registries=None,
    )


@pytest.fixture
def target(tmp_path):
    target = ProcessTarget(Owner(service=NAME), 1, home=tmp_path / "state", environ=os.environ)
    yield target
    target.remove(volumes=True)
    holds(lambda: processes_of(tmp_path) == {})


def env_of(artefact, task="server"):
    return artefact.job[task]["env"]


def test_a_job_says_nothing_of_the_slot_nor_of_who_asks(store, monkeypatch):
    one = supply(store).artefact(store.find(NAME), None)
    monkeypatch.setenv("HOME", "/elsewhere")
    monkeypatch.setenv("PATH", "/nowhere")
    two = supply(store, environ={"TZ": "UTC"}).artefact(store.find(NAME), None)
    assert one == two
    assert one.key == two.key
    content = one.content_id.hex
    assert env_of(one) | {"PYTHONPATH": ""} == {
        "GREETING": "{hi} $PORT",
        "GRPC_PORT": "0",
        "HOST": "127.0.0.1",
        "MODEL_ID": content,
        "MODEL_NAME": NAME,
        "MODEL_PATH": f"@folder@/models/v/{content}",
        "PATH": env_of(one)["PATH"],
        "PORT": "@port@",
        "PYTHONPATH": "",
        "PYTHONPYCACHEPREFIX": env_of(one)["PYTHONPYCACHEPREFIX"],
        "PYTHONUNBUFFERED": "1",
    }
    assert one.job["server"]["argv"] == ["python", "-m", "mlops_server"]
    assert one.job["bootstrap"]["argv"][0] == "@python@"
    assert one.server == f"mlops-server-kserve-sklearn:{one.server_id[:12]}"
    assert one.proof.version == content[:12]


def test_ports_in_a_presets_arguments_are_the_slots(store):
    preset = replace(PRESET, args=("--listen", "{port}", "{path}"))
    job = supply(store, preset=preset).artefact(store.find(NAME), None).job
    content = store.find(NAME).content_id.hex
    assert job["server"]["argv"][3:] == ["--listen", "@port@", f"@folder@/models/v/{content}"]


def test_another_hook_is_another_server_and_what_was_released_stays(store, tmp_path):
    hook = tmp_path / "hook.py"
    hook.write_text(HOOK)
    making = supply(store, server=ServerSpec(hook=hook))
    first = making.artefact(store.find(NAME), None)
    _pretend_environment(first)
    making.prepare(first, Silent())
    hook.write_text(HOOK + "# another\n")
    second = making.artefact(store.find(NAME), None)
    assert first.server_id != second.server_id
    assert first.key != second.key
    assert Path(env_of(first)["HOOK"]).read_text() == HOOK
    assert not Path(env_of(second)["HOOK"]).exists()


def test_an_earlier_server_that_is_gone_is_named(store, tmp_path):
    hook = tmp_path / "hook.py"
    hook.write_text(HOOK)
    earlier = supply(store, server=ServerSpec(hook=hook)).artefact(store.find(NAME), None)
    with pytest.raises(UnusableInputError, match="is not on this machine any more"):
        supply(store).prepare(earlier, Silent())
    _pretend_environment(earlier)
    supply(store).prepare(earlier, Silent())


def test_what_only_an_engine_can_do_is_said_or_refused(store):
    story = Silent()
    image = ServerSpec(image="mine:2")
    limited = supply(store, resources=Resources(memory=1 << 30), user="1000", server=image)
    artefact = limited.artefact(store.find(NAME), None)
    _pretend_environment(artefact)
    limited.prepare(artefact, story)
    assert [text.partition(" needs")[0] for text in story.warned] == ["`server.image`", "`resources`", "`user`"]
    with pytest.raises(UnusableInputError, match="server `mine:1` is an image"):
        limited.artefact(store.find(NAME), "mine:1")
    with pytest.raises(UnusableInputError, match="which needs a container engine"):
        supply(store, preset=replace(PRESET, build=None, image="x:1")).artefact(store.find(NAME), None)


def _pretend_environment(artefact):
    """As if the server's packages had been installed: that they can be is tested where a package index is."""
    programs = Path(env_of(artefact)["PATH"].partition(":")[0])
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs.parent / "complete").touch()


def test_a_carrier_of_the_store_is_placed_and_served(store, target):
    artefact = supply(store, preset=TINY).artefact(store.find(NAME), None)
    target.ensure("a", artefact)
    until(target, "a", "running")
    assert version(target, "a") == artefact.content_id.short
    (said,) = target.logs("bootstrap", "a", 10, follow=False)
    assert said.startswith(f"copied {NAME}")
    target.stop("a", 10)
    until(target, "a", "absent")
    target.ensure("a", artefact)
    until(target, "a", "running")
    (said,) = target.logs("bootstrap", "a", 10, follow=False)
    assert said.startswith(f"found {NAME}")


def test_a_damaged_carrier_fails_the_bootstrap_in_its_own_words(store, target):
    artefact = supply(store, preset=TINY).artefact(store.find(NAME), None)
    (image,) = view_images(LayoutBlobs(store.path), store.find(NAME).digest)
    layer = store.blob_path(image.layers[1].digest)
    layer.write_bytes(layer.read_bytes().replace(b"weights", b"heights", 1))
    target.ensure("a", artefact)
    cause = until(target, "a", "failed").cause
    assert (cause.kind, cause.message) == ("bootstrap", "the bootstrap ended with exit code 65")
    assert any("damaged" in line for line in cause.lines)


def test_a_store_that_is_gone_fails_the_bootstrap(store, target):
    artefact = supply(store, preset=TINY).artefact(store.find(NAME), None)
    shutil.rmtree(store.path)
    target.ensure("a", artefact)
    cause = until(target, "a", "failed").cause
    assert cause.kind == "bootstrap"
    assert any("no carrier" in line for line in cause.lines)


def test_no_copy_goes_on_when_the_bootstrap_is_told_to_end(store, target, tmp_path):
    artefact = supply(store, preset=TINY).artefact(store.find(NAME), None)
    target.address("a")
    folder = tmp_path / "state" / NAME / "a"
    (folder / "models" / "v").mkdir(parents=True)
    os.mkfifo(folder / "models" / "v" / ".alive")
    claim = folder / "models" / "v" / f".{artefact.content_id.hex}.1"
    claim.mkdir()
    # Another run copies: this one waits for it.
    holder = os.open(folder / "models" / "v" / ".alive", os.O_RDWR)
    try:
        target.ensure("a", artefact)
        holds(lambda: any("deploy.sh" in line for line in processes_of(folder).values()))
        target.stop("a", 5)
        until(target, "a", "absent")
        holds(lambda: processes_of(folder) == {})
    finally:
        os.close(holder)


def test_a_bootstrap_that_pulls_needs_no_store_and_is_told_all_it_needs(store):
    pushed = replace(store.find(NAME), pulled=True, tags=("127.0.0.1:5000/models/digits:1",))
    registry = RegistrySpec(
        credentials="/etc/registry.json",
        ca="/etc/ca.crt",
        insecure=True,
        proxy="http://proxy.example.com:3128",
        no_proxy="r.internal",
    )
    artefact = supply(store, bootstrap="pull", registry=registry).artefact(pushed, None)
    assert artefact.job["bootstrap"]["argv"] == ["@python@", "-I", "-m", "mlops_deploy.cli.puller"]
    assert env_of(artefact, "bootstrap") == {
        "MODEL_REF": f"127.0.0.1:5000/models/digits@{pushed.digest}",
        "MODEL_ID": pushed.content_id.hex,
        "MODEL_VOLUME": "@folder@/models",
        "REGISTRY_AUTH_FILE": "/etc/registry.json",
        "SSL_CERT_FILE": "/etc/ca.crt",
        "MLOPS_DEPLOY_INSECURE_REGISTRIES": "127.0.0.1:5000",
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), "http://proxy.example.com:3128"),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "r.internal"),
    }
    assert "HTTPS_PROXY" not in env_of(artefact, "server")
    assert str(store.path) not in json.dumps(artefact.job["bootstrap"])


def test_a_carrier_of_the_store_alone_cannot_be_pulled(store):
    with pytest.raises(UnusableInputError, match="is only in the store"):
        supply(store, bootstrap="pull").artefact(store.find(NAME), None)
