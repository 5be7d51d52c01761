"""The objects that Kubernetes is given: as reviewed, as its published schemas want them, every value exact."""

import dataclasses
import re
from functools import cache

import kubernetes_validate
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.job import environment
from mlops_deploy.render.kubernetes import deployment, render_kubernetes, render_slots, service
from mlops_deploy.render.layout import read_objects
from mlops_deploy.spec.deploy import GoldenRequest, Ready, ReleaseSpec, Resources
from mlops_deploy.spec.kubernetes import KubernetesSpec, KubernetesVolume
from mlops_deploy.spec.rendered import JobImage
from tests.fakes.kubelet import expand, quantity, variables

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
MEANT = (
    "$",
    "$$",
    "$(A)",
    "$(",
    ")",
    "$(MODEL_ID)",
    "{{",
    "}}",
    "{%",
    "'",
    '"',
    "\n",
    "\r",
    "\t",
    "\\",
    "- ",
    ": ",
    "#",
)
MORE = ("#", "---\n", "...", "%", "&a", "*a", "!!x", "\u00e9", "\u2028", "\ufeff", "no", " ")
NASTY = st.one_of(TEXTS, st.lists(st.sampled_from(MEANT + MORE), max_size=12).map("".join))
TAKEN = {"GOLDEN", "MODEL", "MODEL_ID", "MODEL_NAME", "MODEL_PATH", "PORT"}
EVERY = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
LABEL_NAME = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
IMAGE_VOLUME = KubernetesSpec(namespace="predictions", volume=KubernetesVolume(kind="image"))


@cache
def released() -> set[str]:
    """The Kubernetes versions whose schemas are here."""
    return {kubernetes_validate.utils.major_minor(version) for version in kubernetes_validate.utils.all_versions()}


def check(text: str, version: str) -> None:
    """Raise for what a Kubernetes of `version` does not know or would refuse."""
    for one in read_objects(text):
        assert kubernetes_validate.validate(one, version, strict=True) == version


@pytest.fixture
def variants(spec, job):
    """Everything that is written, by what it is."""
    image = dataclasses.replace(spec, kubernetes=IMAGE_VOLUME)
    bare = dataclasses.replace(spec, environment=None, env={}, resources=Resources(), ready=Ready(), user="1000")
    room = dataclasses.replace(spec, kubernetes=KubernetesSpec(volume=KubernetesVolume(size=2 << 30)))
    return {
        "kubernetes": render_kubernetes(spec, *job).text,
        "kubernetes-image": render_kubernetes(image, *job).text,
        "kubernetes-small": render_kubernetes(bare, *job).text,
        "kubernetes-room": render_kubernetes(room, *job).text,
        **{f"kubernetes-{name.removesuffix('.yml')}": file.text for name, file in render_slots(spec, *job).items()},
    }


@pytest.fixture
def preset(preset):
    """With what says that the server is alive."""
    return dataclasses.replace(preset, live="/v2/health/live")


@pytest.mark.parametrize(
    "name", ["kubernetes", "kubernetes-image", "kubernetes-small", "kubernetes-a", "kubernetes-service"]
)
def test_the_files_are_as_reviewed(variants, golden, name):
    golden(f"{name}.yml", variants[name])


@pytest.mark.parametrize("version", EVERY)
def test_every_file_is_what_the_published_schemas_want(variants, version):
    assert version in released()
    for name, text in variants.items():
        if name != "kubernetes-image" or version >= "1.31":
            check(text, version)


def test_the_schemas_refuse_what_a_version_does_not_know(variants):
    with pytest.raises(kubernetes_validate.ValidationError, match="image"):
        check(variants["kubernetes-image"], "1.30")
    with pytest.raises(kubernetes_validate.ValidationError, match="sleep"):
        check(variants["kubernetes"], "1.28")
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolicie"):
        check(variants["kubernetes"].replace("imagePullPolicy", "imagePullPolicie"), "1.37")


def checked(text, deadline):
    return Ready(golden=(GoldenRequest(request={"text": text}, expect=({"text": text},)),), deadline=deadline)


SECONDS = st.floats(1, 720 * 3600)
SERVICES = st.fixed_dictionaries(
    {
        "env": st.dictionaries(NAMES.filter(lambda name: name not in TAKEN), NASTY, max_size=5),
        "user": st.sampled_from([None, "0", "1000", "65532:7"]),
        "resources": st.builds(
            Resources,
            cpu=st.one_of(st.none(), st.floats(0.01, 4096)),
            memory=st.one_of(st.none(), st.integers(6 << 20, 1 << 50)),
        ),
        "ready": st.builds(checked, NASTY, SECONDS),
        "release": st.builds(ReleaseSpec, drain=SECONDS, deadline=SECONDS),
        "kubernetes": st.sampled_from([KubernetesSpec(), IMAGE_VOLUME]),
    }
)
"""What may differ from one service to the next."""


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60
)
@given(changes=SERVICES, args=st.lists(NASTY, max_size=3), slots=st.booleans())
def test_any_service_is_written_as_it_is_and_every_value_arrives(spec, job, changes, args, slots):
    spec, (carrier, image, preset) = dataclasses.replace(spec, **changes), job
    braced = tuple(arg.replace("{", "{{").replace("}", "}}") for arg in args)
    ready = dataclasses.replace(preset.ready, command=("ready", *braced))
    preset = dataclasses.replace(preset, args=braced, ready=ready)
    if slots:
        texts = [file.text for file in render_slots(spec, carrier, image, preset).values()]
        jobs = [deployment(spec, carrier, image, preset, slot=slot) for slot in ("a", "b")]
    else:
        texts = [render_kubernetes(spec, carrier, image, preset).text]
        jobs = [deployment(spec, carrier, image, preset, slot=None)]
    written = [one for text in texts for one in read_objects(text)]
    assert written == [*jobs, service(spec, slot="a" if slots else None)]
    for text in texts:
        check(text, "1.37")
    [server] = written[0]["spec"]["template"]["spec"]["containers"]
    known = variables(server)
    assert known == environment(spec, carrier, preset)
    assert spec.env.items() <= known.items()
    assert [expand(arg, known) for arg in server.get("args", [])] == args
    assert [expand(word, known) for word in server["startupProbe"]["exec"]["command"]] == ["ready", *args]


def test_a_kubelet_takes_an_unquoted_reference_for_a_variable():
    container = {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A) $$(A) $(C) $ $$ $(A"}]}
    assert variables(container)["B"] == "1 $(A) $(C) $ $ $(A"


def test_the_model_is_copied_before_the_server_starts(spec, job):
    pod = pod_of(spec, *job)
    [bootstrap] = pod["initContainers"]
    [server] = pod["containers"]
    assert "command" not in bootstrap, "the carrier's own command guards that the right model was copied"
    assert variables(bootstrap) == {"MODEL_ID": "1" * 64}
    assert bootstrap["volumeMounts"] == [{"name": "model", "mountPath": "/model"}]
    assert server["volumeMounts"][0] == {"name": "model", "mountPath": "/model", "readOnly": True}
    assert variables(server)["MODEL_PATH"] == "/model/v/" + "1" * 64
    assert pod["volumes"][0] == {"name": "model", "emptyDir": {}}


def test_a_carrier_is_mounted_where_the_server_looks_for_its_model(spec, job):
    pod = pod_of(dataclasses.replace(spec, kubernetes=IMAGE_VOLUME), *job)
    [server] = pod["containers"]
    assert "initContainers" not in pod
    path = variables(server)["MODEL_PATH"]
    assert server["volumeMounts"][0] == {"name": "model", "mountPath": path, "subPath": "models", "readOnly": True}
    reference = {"reference": "example/digits:0123456789ab", "pullPolicy": "Never"}
    assert pod["volumes"][0] == {"name": "model", "image": reference}


def test_room_is_asked_of_the_node_and_is_the_limit(spec, job):
    pod = pod_of(dataclasses.replace(spec, kubernetes=KubernetesSpec(volume=KubernetesVolume(size=3 << 29))), *job)
    assert pod["volumes"][0]["emptyDir"] == {"sizeLimit": "1536Mi"}
    assert pod["containers"][0]["resources"]["requests"] == {"ephemeral-storage": "1536Mi"}


def test_as_much_room_as_the_model_takes_is_asked_of_the_node_without_a_limit(spec, carrier, image, preset):
    sized = dataclasses.replace(carrier, size=100 << 20)
    pod = pod_of(spec, sized, image, preset)
    assert pod["volumes"][0]["emptyDir"] == {}
    assert pod["containers"][0]["resources"]["requests"] == {"ephemeral-storage": "106Mi"}
    pod = pod_of(dataclasses.replace(spec, kubernetes=IMAGE_VOLUME), sized, image, preset)
    assert "requests" not in pod["containers"][0]["resources"], "nothing is copied"


def test_what_a_registry_has_may_be_pulled_by_its_digest_and_what_is_local_never(spec, carrier, preset):
    pulled = dataclasses.replace(carrier, name="registry.example.com/digits", local=False)
    pod = pod_of(spec, pulled, JobImage(ref="example/server:1", local=False), preset)
    reference = f"registry.example.com/digits@{carrier.digest}"
    images = [(one["image"], one["imagePullPolicy"]) for one in (*pod["initContainers"], *pod["containers"])]
    assert images == [(reference, "IfNotPresent"), ("example/server:1", "IfNotPresent")]
    pod = pod_of(dataclasses.replace(spec, kubernetes=IMAGE_VOLUME), pulled, JobImage(ref="s:1", local=True), preset)
    assert pod["volumes"][0]["image"] == {"reference": reference, "pullPolicy": "IfNotPresent"}
    assert pod["containers"][0]["imagePullPolicy"] == "Never"


def test_every_container_is_locked_down_and_the_pod_knows_no_token(spec, job):
    pod = pod_of(spec, *job)
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert quantity(container["resources"]["limits"]["memory"]) == 512 << 20
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "they would set variables that nobody has asked for"
    assert {"medium": "Memory", "sizeLimit": "256Mi"} in [volume.get("emptyDir") for volume in pod["volumes"]]


@pytest.mark.parametrize(
    ("user", "context"),
    [
        (None, (65532, 65532, True)),
        ("1000:10", (1000, 10, True)),
        ("1000", (1000, None, True)),
        ("0:0", (0, 0, False)),
    ],
)
def test_the_user_of_the_configuration_runs_the_server_alone(spec, job, user, context):
    pod = pod_of(dataclasses.replace(spec, user=user), *job)
    found = pod["containers"][0]["securityContext"]
    assert (found["runAsUser"], found.get("runAsGroup"), found["runAsNonRoot"]) == context
    assert pod["initContainers"][0]["securityContext"]["runAsUser"] == 65532


def test_the_server_has_its_deadline_to_prove_itself_and_is_asked_on(spec, job):
    [server] = pod_of(dataclasses.replace(spec, ready=Ready(deadline=90.5)), *job)["containers"]
    startup, readiness, live = server["startupProbe"], server["readinessProbe"], server["livenessProbe"]
    assert startup["exec"] == readiness["exec"] == {"command": ["python", "-m", "mlops_server.ready"]}
    assert startup["periodSeconds"] * startup["failureThreshold"] == 91
    assert (readiness["periodSeconds"], readiness["failureThreshold"]) == (8, 3)
    assert live["httpGet"] == {"path": "/v2/health/live", "port": "http"}
    assert live["periodSeconds"] * live["failureThreshold"] == 60
    assert "initialDelaySeconds" not in startup


def test_a_server_that_does_not_say_that_it_is_alive_is_not_asked(spec, carrier, image, preset):
    [server] = pod_of(spec, carrier, image, dataclasses.replace(preset, live=None))["containers"]
    assert "livenessProbe" not in server
    assert "startupProbe" in server


@pytest.mark.parametrize(("drain", "left"), [(12.5, 13), (0.0, 1)])
def test_a_pod_serves_until_it_is_no_endpoint_and_then_ends_what_it_has_begun(spec, job, drain, left):
    slow = dataclasses.replace(spec, release=ReleaseSpec(drain=drain, deadline=99.5))
    document = deployment(slow, *job, slot=None)
    pod = document["spec"]["template"]["spec"]
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert pod["terminationGracePeriodSeconds"] == 5 + left
    assert document["spec"]["progressDeadlineSeconds"] == 100


def test_a_new_pod_answers_before_the_old_one_goes_but_a_slot_never_runs_two(spec, job):
    alone = deployment(spec, *job, slot=None)["spec"]["strategy"]
    assert alone == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert deployment(spec, *job, slot="b")["spec"]["strategy"] == {"type": "Recreate"}


def test_the_service_selects_one_slot_and_no_other(spec, job):
    files = {name: read_objects(file.text)[0] for name, file in render_slots(spec, *job).items()}
    assert list(files) == ["a.yml", "b.yml", "service.yml"]
    selector = files["service.yml"]["spec"]["selector"]
    selected = {
        slot: selector.items() <= files[f"{slot}.yml"]["spec"]["template"]["metadata"]["labels"].items()
        for slot in ("a", "b")
    }
    assert selected == {"a": True, "b": False}
    assert files["service.yml"]["metadata"]["name"] == "digits-test"
    assert files["service.yml"]["spec"]["ports"] == [{"name": "http", "port": 9000, "targetPort": "http"}]
    assert files["a.yml"]["spec"]["template"]["spec"] == files["b.yml"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("slot", [None, "a"])
def test_names_and_labels_are_such_also_at_their_longest(spec, job, slot):
    longest = dataclasses.replace(spec, service="s" * 32, environment="e" * 28)
    document = deployment(longest, *job, slot=slot)
    labels = document["spec"]["template"]["metadata"]["labels"]
    assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels["io.mlops-deploy.service"] == "s" * 32
    assert labels.get("io.mlops-deploy.slot") == slot
    for one in (document, service(longest, slot=slot)):
        assert len(one["metadata"]["name"]) <= 63
        for name, value in one["metadata"]["labels"].items():
            assert LABEL_NAME.fullmatch(name)
            assert LABEL_VALUE.fullmatch(value)
    assert document["metadata"]["annotations"] == {"io.mlops-deploy.content": "1" * 64}, "too long for a label"


def test_everything_is_in_the_namespace_or_says_none(spec, job):
    placed = read_objects(render_kubernetes(dataclasses.replace(spec, kubernetes=IMAGE_VOLUME), *job).text)
    assert [one["metadata"]["namespace"] for one in placed] == ["predictions", "predictions"]
    assert all("namespace" not in one["metadata"] for one in read_objects(render_kubernetes(spec, *job).text))


@pytest.mark.parametrize(
    ("cpu", "memory", "written"),
    [
        (None, None, None),
        (1.5, None, {"cpu": "1500m"}),
        (1.1, None, {"cpu": "1100m"}),
        (0.0101, 512 << 20, {"cpu": "11m", "memory": "512Mi"}),
        (None, 100_000_001, {"memory": "100000001"}),
        (None, 3 << 40, {"memory": "3Ti"}),
        (None, 1536 << 10, {"memory": "1536Ki"}),
    ],
)
def test_limits_are_written_as_quantities(spec, job, cpu, memory, written):
    [server] = pod_of(dataclasses.replace(spec, resources=Resources(cpu=cpu, memory=memory)), *job)["containers"]
    assert server.get("resources", {}).get("limits") == written


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layout": "models/{name}/1"}, "sets `layout`, which cannot be rendered for kubernetes yet"),
        ({"files": {"config.pbtxt": "x"}}, "sets `files`, which cannot be rendered for kubernetes yet"),
        ({"drain_signal": "SIGINT"}, "ends by SIGINT; Kubernetes sends SIGTERM"),
    ],
)
def test_a_preset_that_kubernetes_cannot_run_so_is_refused(spec, job, changes, says):
    carrier, image, preset = job
    with pytest.raises(UnusableInputError, match=says):
        render_kubernetes(spec, carrier, image, dataclasses.replace(preset, **changes))


def test_a_preset_without_a_ready_command_is_refused(spec, carrier, image, preset):
    blind = dataclasses.replace(preset, ready=dataclasses.replace(preset.ready, command=()))
    with pytest.raises(UnusableInputError, match=r"has no `ready\.command`"):
        render_slots(spec, carrier, image, blind)


def test_room_for_a_copy_that_nobody_makes_is_refused(spec, job):
    both = KubernetesSpec(volume=KubernetesVolume(kind="image", size=1 << 30))
    with pytest.raises(UnusableInputError, match=r"`kubernetes\.volume\.size` is the room for a copy"):
        render_kubernetes(dataclasses.replace(spec, kubernetes=both), *job)


def test_a_variable_that_says_which_model_is_refused(spec, job):
    with pytest.raises(UnusableInputError, match="`env` sets `MODEL_ID`"):
        render_kubernetes(dataclasses.replace(spec, env={"MODEL_ID": "x"}), *job)


def test_what_no_process_can_be_given_is_refused_by_name(spec, job):
    with pytest.raises(UnusableInputError, match="`value` holds a NUL character"):
        render_kubernetes(dataclasses.replace(spec, env={"A": "a\0b"}), *job)


def pod_of(spec, *job):
    return deployment(spec, *job, slot=None)["spec"]["template"]["spec"]
