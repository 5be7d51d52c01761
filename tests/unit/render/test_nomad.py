import dataclasses
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.hcl import hcl
from mlops_deploy.render.nomad import document, release_warnings, slot_document, slot_job, volume_of, warnings
from mlops_deploy.render.nomad_fingerprint import FINGERPRINT, fingerprint
from mlops_deploy.spec.deploy import Ready, ReleaseSpec, Resources
from mlops_deploy.spec.nomad import Affinity, Constraint, Device, NomadSpec, NomadVolume, Spread
from mlops_deploy.spec.owner import Owner

SECOND = 1_000_000_000
OWNER = Owner(service="digits", environment="test")
BATCH = NomadSpec(type="batch", command=("python", "-m", "predict"))
EVERYTHING = NomadSpec(
    namespace="predictions",
    region="eu",
    datacenters=("dc1", "dc-*"),
    node_pool="gpu",
    priority=70,
    count=2,
    provider="consul",
    volume=NomadVolume(kind="dynamic", size=2 << 30),
    pull_timeout=900.0,
    shutdown_delay=0.0,
    cores=2,
    memory_max=2 << 30,
    constraints=(
        Constraint(attribute="${attr.cpu.arch}", value="amd64"),
        Constraint(attribute="${meta.rack}", operator="is_set"),
    ),
    affinities=(Affinity(attribute="${node.class}", value="slow", weight=-50),),
    spreads=(Spread(attribute="${node.datacenter}", targets={"dc2": 30, "dc1": 70}),),
    devices=(Device(name="nvidia/gpu", count=2),),
    meta={"team": 'fore"casting', "a.b": "%{c}"},
)


@pytest.fixture
def preset(preset):
    return dataclasses.replace(preset, ready=dataclasses.replace(preset.ready, endpoint="/v2/models/{name}/ready"))


@pytest.fixture
def spec(spec):
    return dataclasses.replace(spec, environment="test")


def test_the_file_is_as_reviewed(spec, job, golden):
    golden("digits.nomad.hcl", hcl(document(spec, *job)))
    golden("digits.nomad.json", json.dumps(document(spec, *job), indent=2) + "\n")


def test_the_smallest_and_the_largest_files_are_as_reviewed(spec, job, golden):
    small = dataclasses.replace(spec, environment=None, env={}, resources=Resources(), ready=Ready())
    golden("small.nomad.hcl", hcl(document(small, *job)))
    golden("large.nomad.hcl", hcl(document(on_nomad(spec, EVERYTHING), *job)))


def test_a_batch_job_is_as_reviewed(spec, job, golden):
    nightly = dataclasses.replace(BATCH, periodic="@daily", volume=NomadVolume(kind="host", name="models"))
    golden("batch.nomad.hcl", hcl(document(on_nomad(spec, nightly), *job)))


def test_a_slot_is_as_reviewed(spec, job, golden):
    golden("slot.nomad.hcl", hcl(in_slot(spec, job, "b")))


def test_what_a_slot_runs_does_not_depend_on_the_slot(spec, job):
    one, other = in_slot(spec, job, "a"), in_slot(spec, job, "b")
    prints = [found["Meta"].pop(FINGERPRINT) for found in (one, other)]
    assert prints == [fingerprint(one), fingerprint(other)]
    assert one["Name"] == one["ID"] == "digits-test-a"
    assert server(one)["Services"][0]["Name"] == "digits-test-a"
    assert one["Meta"] == {
        "io.mlops-deploy.service": "digits",
        "io.mlops-deploy.env": "test",
        "io.mlops-deploy.slot": "a",
        "io.mlops-deploy.content": "1" * 64,
        "io.mlops-deploy.key": "2" * 64,
    }
    assert json.loads(json.dumps(one).replace('-a"', '-b"').replace('"a"', '"b"')) == other
    assert "digits-test" not in json.dumps(slot_job(spec, *job))


def test_a_slot_is_one_server_in_nomads_own_catalogue(spec, job):
    found = in_slot(on_nomad(spec, EVERYTHING), job, "a")
    assert group(found)["Count"] == 1
    assert server(found)["Services"][0]["Provider"] == "nomad"
    alone = document(on_nomad(spec, EVERYTHING), *job)
    assert (group(alone)["Count"], server(alone)["Services"][0]["Provider"]) == (2, "consul")


def test_the_bootstrap_ends_before_the_server_starts_and_has_no_network(spec, job):
    first, second = group(document(spec, *job))["Tasks"]
    assert first["Lifecycle"] == {"Hook": "prestart", "Sidecar": False}
    assert "Lifecycle" not in second
    assert first["Config"]["network_mode"] == "none"
    assert "args" not in first["Config"], "the carrier's own command guards that the right model was copied"
    assert first["Resources"]["CPU"] <= second["Resources"]["CPU"]
    assert first["Resources"]["MemoryMB"] <= second["Resources"]["MemoryMB"]


@pytest.mark.parametrize("task", [0, 1])
def test_both_tasks_are_hardened(spec, job, task):
    found = group(document(spec, *job))["Tasks"][task]
    config = found["Config"]
    assert found["User"] == "65532:65532"
    assert (config["readonly_rootfs"], config["cap_drop"]) == (True, ["all"])
    assert config["security_opt"] == ["no-new-privileges"]
    assert config["pids_limit"] == 4096
    assert config["mount"][0]["tmpfs_options"] == [{"size": [64, 256][task] << 20, "mode": 0o1777}]
    assert (
        found["LogConfig"]["MaxFiles"] * found["LogConfig"]["MaxFileSizeMB"]
        < group(document(spec, *job))["EphemeralDisk"]["SizeMB"]
    )


@pytest.mark.parametrize("kind", ["alloc", "host", "dynamic"])
def test_the_server_is_given_the_exact_folder_and_cannot_write_to_it(spec, job, kind):
    volume = NomadVolume(kind=kind, name="models" if kind == "host" else None)
    found = document(on_nomad(spec, NomadSpec(volume=volume)), *job)
    first, second = group(found)["Tasks"]
    assert second["Env"]["MODEL_PATH"] == "/model/v/" + "1" * 64
    if kind == "alloc":
        assert first["Env"]["MODEL_VOLUME"] == "/alloc/data/model"
        binds = {mount["target"]: mount for mount in second["Config"]["mount"] if mount["type"] == "bind"}
        assert {target: mount["source"] for target, mount in binds.items()} == {
            "/alloc/data": "../alloc/data",
            "/model": "../alloc/data/model",
        }
        assert all(mount["readonly"] for mount in binds.values())
        assert volume_of(found) is None
    else:
        assert first["Env"]["MODEL_VOLUME"] == "/model"
        assert first["VolumeMounts"] == [{"Volume": "models", "Destination": "/model", "ReadOnly": False}]
        assert second["VolumeMounts"] == [{"Volume": "models", "Destination": "/model", "ReadOnly": True}]
        assert volume_of(found) == (("models", False) if kind == "host" else ("digits-test-models", True))


def test_each_slot_has_a_dynamic_volume_of_its_own(spec, job):
    dynamic = on_nomad(spec, NomadSpec(volume=NomadVolume(kind="dynamic")))
    assert [volume_of(in_slot(dynamic, job, slot)) for slot in "ab"] == [
        ("digits-test-a-models", True),
        ("digits-test-b-models", True),
    ]


def test_a_host_volume_without_a_name_is_refused(spec, job):
    with pytest.raises(UnusableInputError, match="says no host volume"):
        document(on_nomad(spec, NomadSpec(volume=NomadVolume(kind="host"))), *job)


def test_the_service_belongs_to_the_server_and_is_checked_where_a_router_asks(spec, job):
    found = document(spec, *job)
    assert "Services" not in group(found)
    (service,) = server(found)["Services"]
    (check,) = service["Checks"]
    assert (service["Name"], service["PortLabel"], service["Provider"]) == ("digits-test", "http", "nomad")
    assert (check["Type"], check["Path"]) == ("http", "/v2/models/digits/ready")
    assert check["CheckRestart"]["Grace"] == 120 * SECOND
    assert group(found)["Networks"] == [{"DynamicPorts": [{"Label": "http", "To": 8080}]}]


@pytest.mark.parametrize("deadline", [1.0, 20.0, 120.0, 3600.0, 720 * 3600.0])
@pytest.mark.parametrize("drain", [0.0, 30.0, 720 * 3600.0])
def test_deadlines_of_the_cluster_end_after_everything_that_has_to_be_done(spec, job, deadline, drain):
    patient = dataclasses.replace(spec, ready=Ready(deadline=deadline), release=ReleaseSpec(drain=drain))
    found = document(patient, *job)
    update, task = group(found)["Update"], server(found)
    assert update["HealthyDeadline"] > (2 * 300 + deadline) * SECOND + update["MinHealthyTime"]
    assert update["ProgressDeadline"] > update["HealthyDeadline"]
    assert update["ProgressDeadline"] > task["KillTimeout"] == drain * SECOND
    restart = task["RestartPolicy"]
    assert restart["Interval"] > restart["Attempts"] * (deadline * SECOND + restart["Delay"])


@pytest.mark.parametrize(
    ("cpu", "cores", "expected"),
    [(None, None, {"CPU": 100}), (1.5, None, {"CPU": 1500}), (0.01, None, {"CPU": 10}), (1.5, 2, {"Cores": 2})],
)
def test_a_core_is_a_share_unless_cores_are_reserved(spec, job, cpu, cores, expected):
    sized = dataclasses.replace(spec, resources=Resources(cpu=cpu), nomad=NomadSpec(cores=cores))
    assert expected.items() <= server(document(sized, *job))["Resources"].items()
    assert len({"CPU", "Cores"} & server(document(sized, *job))["Resources"].keys()) == 1


def test_memory_is_rounded_up_to_megabytes_and_never_without_a_limit(spec, job):
    for given_memory, expected in [(None, 1024), (512 << 20, 512), (100_000_001, 96)]:
        sized = dataclasses.replace(spec, resources=Resources(memory=given_memory))
        assert server(document(sized, *job))["Resources"]["MemoryMB"] == expected
    small = dataclasses.replace(spec, resources=Resources(), nomad=NomadSpec(memory_max=100 << 20))
    assert {"MemoryMB": 100, "MemoryMaxMB": 100}.items() <= server(document(small, *job))["Resources"].items()


@pytest.mark.parametrize(
    ("size", "volume", "model"),
    [
        (None, NomadVolume(), 300),
        (10 << 20, NomadVolume(), 11),
        (10 << 30, NomadVolume(), 10752),
        (10 << 30, NomadVolume(size=20 << 30), 20480),
        (10 << 30, NomadVolume(kind="dynamic"), 0),
    ],
)
def test_a_node_must_have_room_for_the_logs_and_the_model(spec, job, size, volume, model):
    carrier, *others = job
    found = document(on_nomad(spec, NomadSpec(volume=volume)), dataclasses.replace(carrier, size=size), *others)
    logs = sum(2 * one["LogConfig"]["MaxFiles"] * one["LogConfig"]["MaxFileSizeMB"] for one in group(found)["Tasks"])
    assert group(found)["EphemeralDisk"]["SizeMB"] == logs + 16 + model


class TestBatch:
    def test_runs_its_command_to_the_end_and_serves_nothing(self, spec, job):
        found = document(on_nomad(spec, BATCH), *job)
        assert found["Type"] == "batch"
        assert server(found)["Config"]["entrypoint"] == ["python", "-m", "predict"]
        assert not {"Services", "ShutdownDelay"} & server(found).keys()
        assert not {"Update", "Networks"} & group(found).keys()
        assert "Periodic" not in found

    def test_runs_one_after_the_other(self, spec, job):
        found = document(on_nomad(spec, dataclasses.replace(BATCH, periodic="@daily")), *job)
        assert found["Periodic"]["Specs"] == ["@daily"]
        assert found["Periodic"]["ProhibitOverlap"] is True

    def test_needs_a_command(self, spec, job):
        with pytest.raises(UnusableInputError, match=r"`nomad\.command` does not say what to run"):
            document(on_nomad(spec, NomadSpec(type="batch")), *job)

    def test_is_not_released(self, spec, job):
        with pytest.raises(UnusableInputError, match="there is nothing to release"):
            slot_job(on_nomad(spec, BATCH), *job)


class TestTexts:
    @pytest.mark.parametrize(
        ("value", "written"),
        [
            ("${HOME}", "${NOMAD_META_mlops_deploy_dollar}{HOME}"),
            ("$${a.b-c}", "$${NOMAD_META_mlops_deploy_dollar}{a.b-c}"),
            ("$HOME ${a:-b} ${} ${ä} %{if x} {{ x }}", "$HOME ${a:-b} ${} ${ä} %{if x} {{ x }}"),
        ],
    )
    def test_what_a_client_would_replace_in_the_environment_is_written_so_that_it_puts_it_back(
        self, spec, job, value, written
    ):
        found = server(document(dataclasses.replace(spec, env={"X": value}), *job))
        assert found["Env"]["X"] == written
        assert ("Meta" in found) == (value != written)
        assert as_a_client_reads(found)["X"] == value

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
    @given(value=st.text(st.sampled_from("${}%a.-_\\\"'A \n"), max_size=30))
    def test_every_value_arrives(self, spec, job, value):
        assert as_a_client_reads(server(document(dataclasses.replace(spec, env={"X": value}), *job)))["X"] == value

    def test_a_text_of_the_configuration_of_a_driver_is_no_template(self, spec, carrier, image, preset):
        odd = dataclasses.replace(preset, args=("${{HOME}} %{{ if }} $x",))
        assert server(document(spec, carrier, image, odd))["Config"]["args"] == ["$${HOME} %%{ if } $x"]

    def test_a_character_that_a_client_would_put_together_is_refused_where_it_would(self, spec, job):
        odd = dataclasses.replace(BATCH, command=("echo", "e\u0301"))
        with pytest.raises(UnusableInputError, match="put together of several, which Nomad would change"):
            document(on_nomad(spec, odd), *job)
        assert server(document(dataclasses.replace(spec, env={"X": "e\u0301"}), *job))["Env"]["X"] == "e\u0301"

    def test_a_variable_of_nomads_own_is_refused(self, spec, job):
        with pytest.raises(UnusableInputError, match="`env` sets `NOMAD_TASK_DIR`: what begins with `NOMAD_` is"):
            document(dataclasses.replace(spec, env={"NOMAD_TASK_DIR": "x"}), *job)

    def test_meta_in_which_a_client_would_replace_something_is_refused(self, spec, job):
        with pytest.raises(UnusableInputError, match=r"`nomad\.meta\.team` holds `\$\{HOME\}`, which Nomad replaces"):
            document(on_nomad(spec, NomadSpec(meta={"team": "a ${HOME}"})), *job)

    @pytest.mark.parametrize("value", ["a\0b", "a\ud800b"])
    def test_what_no_process_can_be_given_is_refused(self, spec, job, value):
        with pytest.raises(UnusableInputError, match=r"`X` holds .*, which no process can be given"):
            slot_job(dataclasses.replace(spec, env={"X": value}), *job)


def test_a_preset_without_an_endpoint_is_refused(spec, carrier, image, preset):
    blind = dataclasses.replace(preset, ready=dataclasses.replace(preset.ready, endpoint=None))
    with pytest.raises(UnusableInputError, match=r"has no `ready\.endpoint`"):
        document(spec, carrier, image, blind)


@pytest.mark.parametrize("changes", [{"layout": "models/{name}/1"}, {"files": {"config.pbtxt": "x"}}])
def test_a_preset_that_wants_files_of_its_own_is_refused(spec, carrier, image, preset, changes):
    with pytest.raises(UnusableInputError, match=f"sets `{next(iter(changes))}`, which cannot be rendered"):
        document(spec, carrier, image, dataclasses.replace(preset, **changes))


def test_the_same_service_gives_the_same_job_whatever_the_order_of_its_keys(spec, job):
    turned = dataclasses.replace(spec, env=dict(reversed(spec.env.items())))
    assert hcl(document(turned, *job)) == hcl(document(spec, *job))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"resources": Resources()}, "the server gets 1024 MiB"),
        ({"release": ReleaseSpec(drain=31.0)}, "`release.drain` is 31s: clients cut it at 30s"),
        (
            {"nomad": NomadSpec(pull_timeout=301.0)},
            "Nomad 2.0.1 to 2.0.5 give up pulling after 5m (hashicorp/nomad#28496)",
        ),
    ],
)
def test_what_a_cluster_may_not_do_is_told(spec, changes, says):
    assert warnings(on_nomad(spec, NomadSpec(pull_timeout=300.0))) == []
    (told,) = warnings(dataclasses.replace(spec, **changes))
    assert says in told


@pytest.mark.parametrize(
    ("nomad", "says"), [(NomadSpec(provider="consul"), "`nomad.provider` is `consul`"), (NomadSpec(count=5), "is 5")]
)
def test_what_a_release_does_otherwise_is_told(spec, nomad, says):
    (told,) = release_warnings(on_nomad(spec, nomad))
    assert says in told
    assert release_warnings(on_nomad(spec, NomadSpec())) == []


@pytest.mark.parametrize(("mebibytes", "taken"), [(6, False), (9, False), (10, True)])
def test_less_memory_than_nomad_gives_a_task_is_refused(spec, job, mebibytes, taken):
    little = dataclasses.replace(spec, resources=Resources(memory=mebibytes << 20))
    if taken:
        assert server(slot_job(little, *job))["Resources"]["MemoryMB"] == mebibytes
        return
    with pytest.raises(UnusableInputError, match="less than 10 MiB"):
        slot_job(little, *job)


def as_a_client_reads(task):
    """What `client/taskenv` makes of an environment: one pass of one pattern over each value."""
    known = {"HOME": "/", "A": "1", "a": "2"} | {
        f"NOMAD_META_{key}": text for key, text in task.get("Meta", {}).items()
    }
    pattern = re.compile(r"\$\{([a-zA-Z0-9_\-.]+)\}")
    return {
        name: pattern.sub(lambda found: known.get(found[1], found[0]), value) for name, value in task["Env"].items()
    }


def on_nomad(spec, nomad):
    return dataclasses.replace(spec, nomad=nomad)


def in_slot(spec, job, slot):
    return slot_document(OWNER, slot, slot_job(spec, *job), content="1" * 64, key="2" * 64)


def group(job):
    (one,) = job["TaskGroups"]
    return one


def server(job):
    return group(job)["Tasks"][1]
