import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.compose import document, render_compose
from mlops_deploy.render.layout import read_back
from mlops_deploy.spec.deploy import Ready, Resources

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def test_the_file_is_as_reviewed(spec, job, golden):
    golden("compose.yml", render_compose(spec, *job).text)


def test_the_smallest_file_is_as_reviewed(spec, job, golden):
    small = dataclasses.replace(spec, environment=None, env={}, resources=Resources(), ready=Ready())
    golden("compose-small.yml", render_compose(small, *job).text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(env=st.dictionaries(NAMES, VALUES).filter(lambda env: not env.keys() & {"GOLDEN", "MODEL", "PORT"}))
def test_every_value_comes_back_as_it_was(spec, job, env):
    given_env = dataclasses.replace(spec, env=env)
    text = render_compose(given_env, *job).text
    assert read_back(text) == document(given_env, *job)
    assert env.items() <= read_back(text)["services"]["server"]["environment"].items()


def test_the_same_service_gives_the_same_bytes_whatever_the_order_of_its_keys(spec, job):
    turned = dataclasses.replace(spec, env=dict(reversed(spec.env.items())))
    assert list(turned.env) != list(spec.env)
    assert render_compose(turned, *job).text == render_compose(spec, *job).text


@pytest.mark.parametrize("name", ["bootstrap", "server"])
def test_both_containers_are_hardened(spec, job, name):
    service = services(spec, *job)[name]
    assert service["user"] == "65532:65532"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    room = {"bootstrap": "64m", "server": "256m"}[name]
    (tmpfs,) = service["tmpfs"]
    assert tmpfs.partition(":")[2] == f"size={room},mode=1777", "without a size it takes half of the machine's memory"
    assert service["deploy"]["resources"]["limits"]["pids"] > 0
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_the_bootstrap_has_no_network_and_ends_once(spec, job):
    bootstrap = services(spec, *job)["bootstrap"]
    assert (bootstrap["network_mode"], bootstrap["restart"]) == ("none", "no")
    assert "command" not in bootstrap, "the carrier's own command guards that the right model was copied"


def test_the_server_cannot_write_to_the_models_and_is_reached_from_this_machine_only(spec, job):
    service = services(spec, *job)["server"]
    assert [volume["read_only"] for volume in service["volumes"]] == [True]
    assert service["ports"] == ["127.0.0.1:9000:8080"]


@pytest.mark.parametrize(
    ("cpu", "env", "threads"),
    [(None, {}, None), (2.0, {}, "2"), (1.5, {}, "2"), (0.25, {}, "1"), (4.0, {"OMP_NUM_THREADS": "1"}, "1")],
)
def test_numeric_libraries_start_as_many_threads_as_there_are_processors_for_them(spec, job, cpu, env, threads):
    limited = dataclasses.replace(spec, resources=Resources(cpu=cpu), env=env)
    assert services(limited, *job)["server"]["environment"].get("OMP_NUM_THREADS") == threads


def test_a_preset_says_how_many_threads_if_it_wants(spec, carrier, image, preset):
    own = dataclasses.replace(preset, env={"OMP_NUM_THREADS": "7"})
    assert services(spec, carrier, image, own)["server"]["environment"]["OMP_NUM_THREADS"] == "7"


def test_the_model_is_named_by_its_content(spec, job):
    environment = services(spec, *job)["server"]["environment"]
    assert environment["MODEL_ID"] == "1" * 64
    assert environment["MODEL_PATH"] == "/model/v/" + "1" * 64
    assert environment["MODEL_NAME"] == "digits"


def test_the_user_of_the_configuration_runs_the_server_alone(spec, job):
    found = services(dataclasses.replace(spec, user="1000:1000"), *job)
    assert found["server"]["user"] == "1000:1000"
    assert found["bootstrap"]["user"] == "65532:65532", "the owner of the new volume"


def test_an_image_of_a_registry_may_be_pulled_and_a_local_one_never(spec, carrier, image, preset):
    pulled = dataclasses.replace(image, local=False)
    assert services(spec, carrier, image, preset)["server"]["pull_policy"] == "never"
    assert services(spec, carrier, pulled, preset)["server"]["pull_policy"] == "missing"


def test_a_variable_that_says_which_model_is_refused(spec, job):
    with pytest.raises(UnusableInputError, match="`env` sets `MODEL_ID`") as caught:
        document(dataclasses.replace(spec, env={"MODEL_ID": "x"}), *job)
    assert caught.value.hint == "remove `MODEL_ID` from `env`"


@pytest.mark.parametrize("name", ["", "1A", "a b", "A=B", "A\n", "$A", "A" * 300])
def test_what_cannot_name_a_variable_is_refused(spec, job, name):
    with pytest.raises(UnusableInputError, match="cannot name a variable"):
        document(dataclasses.replace(spec, env={name: "x"}), *job)


def test_a_variable_longer_than_linux_takes_is_refused(spec, job):
    longest = "x" * (131_071 - len("BIG="))
    assert document(dataclasses.replace(spec, env={"BIG": longest}), *job)
    with pytest.raises(UnusableInputError, match="`BIG` is 131,072 bytes long"):
        document(dataclasses.replace(spec, env={"BIG": longest + "x"}), *job)


def test_golden_requests_that_are_too_long_are_named_as_such(spec, job):
    wide = dataclasses.replace(spec.ready.golden[0], request={"text": "ä" * 70_000})
    with pytest.raises(UnusableInputError, match=r"the golden requests are 14\d,\d{3} bytes long"):
        document(dataclasses.replace(spec, ready=Ready(golden=(wide,))), *job)


@pytest.mark.parametrize(
    ("count", "written"), [(512 << 20, "512m"), (3 << 30, "3g"), (1536 << 10, "1536k"), (10_000_001, "10000001b")]
)
def test_memory_is_written_in_the_largest_whole_unit(spec, job, count, written):
    server = services(dataclasses.replace(spec, resources=Resources(memory=count)), *job)["server"]
    assert server["deploy"]["resources"]["limits"]["memory"] == written


def test_a_preset_is_filled_for_the_model(spec, carrier, image, preset):
    filled = dataclasses.replace(
        preset, args=("--name={name}", "--dir={path}"), env={"SERVED": "{id12}"}, drain_signal="SIGINT", uid=1000
    )
    found = services(spec, carrier, image, filled)["server"]
    assert found["entrypoint"] == ["python", "-m", "mlops_server"]
    assert found["command"] == ["--name=digits", "--dir=/model/v/" + "1" * 64]
    assert found["environment"]["SERVED"] == "1" * 12
    assert (found["stop_signal"], found["user"]) == ("SIGINT", "1000:1000")
    assert read_back(render_compose(spec, carrier, image, filled).text)["services"]["server"] == found


@pytest.mark.parametrize("changes", [{"layout": "models/{name}/1"}, {"files": {"config.pbtxt": "x"}}])
def test_a_preset_that_wants_files_of_its_own_is_refused(spec, carrier, image, preset, changes):
    with pytest.raises(UnusableInputError, match=f"sets `{next(iter(changes))}`, which cannot be rendered"):
        document(spec, carrier, image, dataclasses.replace(preset, **changes))


def test_a_preset_without_a_ready_command_is_refused(spec, carrier, image, preset):
    blind = dataclasses.replace(preset, ready=dataclasses.replace(preset.ready, command=()))
    with pytest.raises(UnusableInputError, match=r"has no `ready\.command`"):
        document(spec, carrier, image, blind)


def services(spec, *job):
    return document(spec, *job)["services"]
