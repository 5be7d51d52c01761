"""What the product relies on in a Nomad API, held against the double and against an agent."""

import threading
import time
from contextlib import suppress

import pytest

from mlops_deploy.errors import ConflictError, DeployError, UnusableInputError
from tests.fakes.nomad_api import Grant

NOTHING = "7cd46b30-26ab-1e48-0f35-1ad4a8e8b9d0"


def job(name, command="exec sleep 1000", count=1, namespace="default"):
    """A job with a service that needs no engine."""
    task = {
        "Name": "main",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sh", "args": ["-c", command]},
        "Resources": {"CPU": 20, "MemoryMB": 16},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
        "Services": [{"Name": name, "Provider": "nomad", "PortLabel": "http"}],
    }
    group = {
        "Name": "main",
        "Count": count,
        "Tasks": [task],
        "Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}],
        "EphemeralDisk": {"SizeMB": 10},
    }
    return {"ID": name, "Name": name, "Namespace": namespace, "Datacenters": ["*"], "TaskGroups": [group]}


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def running(client, name):
    """Its allocations, once there is one and all run."""

    def all_run():
        found = [one for one in client.allocations(name) if one["DesiredStatus"] == "run"]
        return found if found and all(one["ClientStatus"] == "running" for one in found) else None

    return until(all_run)


@pytest.fixture
def purge(client, name):
    yield
    client.deregister(name, purge=True)


@pytest.mark.usefixtures("purge")
class TestJobs:
    def test_a_new_job_is_registered_where_none_is(self, client, name):
        assert client.job(name) is None
        assert client.register(job(name), 0)
        assert client.job(name)["ID"] == name

    def test_a_job_that_is_there_is_not_new(self, client, name):
        client.register(job(name), 0)
        before = client.job(name)["JobModifyIndex"]
        with pytest.raises(ConflictError) as refused:
            client.register(job(name, "exec sleep 2000"), 0)
        assert refused.value.exit_code == 3
        assert client.job(name)["JobModifyIndex"] == before

    def test_a_job_is_changed_by_who_knows_its_index(self, client, name):
        client.register(job(name), 0)
        first = client.job(name)
        client.register(job(name, "exec sleep 2000"), first["JobModifyIndex"])
        second = client.job(name)
        assert second["Version"] == first["Version"] + 1
        assert second["JobModifyIndex"] > first["JobModifyIndex"]
        with pytest.raises(ConflictError):
            client.register(job(name, "exec sleep 3000"), first["JobModifyIndex"])
        assert client.job(name)["Version"] == second["Version"]

    def test_an_index_of_no_job_is_a_conflict(self, client, name):
        with pytest.raises(ConflictError):
            client.register(job(name), 5)
        assert client.job(name) is None

    def test_without_an_index_any_job_is_replaced(self, client, name):
        client.register(job(name), None)
        client.register(job(name, "exec sleep 2000"), None)
        assert client.job(name)["Version"] == 1

    def test_the_same_job_again_changes_nothing(self, client, name):
        client.register(job(name), 0)
        first = running(client, name)
        version = client.job(name)["Version"]
        assert client.register(job(name), client.job(name)["JobModifyIndex"])
        assert client.job(name)["Version"] == version
        assert [one["ID"] for one in client.allocations(name)] == [one["ID"] for one in first]

    def test_two_who_register_at_once_have_one_winner(self, world, name):
        won = []

        def register(number):
            with suppress(ConflictError):
                world.client().register(job(name, f"exec sleep {1000 + number}"), 0)
                won.append(number)

        threads = [threading.Thread(target=register, args=(number,)) for number in range(5)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(won) == 1

    def test_a_job_that_cannot_be_is_refused_in_one_line(self, client, name):
        with pytest.raises(DeployError) as refused:
            client.register({"ID": name, "Name": name, "Datacenters": ["*"]}, None)
        assert "Missing job task groups" in refused.value.message
        assert "\n" not in refused.value.message

    def test_plan_tells_new_from_same_from_changed(self, client, name):
        new = client.plan(job(name))
        assert (new["Diff"]["Type"], new["JobModifyIndex"], new["FailedTGAllocs"]) == ("Added", 0, None)
        assert client.job(name) is None
        client.register(job(name), 0)
        index = client.job(name)["JobModifyIndex"]
        same, changed = client.plan(job(name)), client.plan(job(name, "exec sleep 2000"))
        assert (same["Diff"]["Type"], same["JobModifyIndex"]) == ("None", index)
        assert (changed["Diff"]["Type"], changed["JobModifyIndex"]) == ("Edited", index)

    def test_a_stopped_job_is_there_until_it_is_purged(self, client, name):
        client.register(job(name), 0)
        running(client, name)
        client.deregister(name, purge=False)
        assert client.job(name)["Stop"] is True
        until(lambda: all(one["ClientStatus"] == "complete" for one in client.allocations(name)))
        client.deregister(name, purge=True)
        assert client.job(name) is None
        assert client.allocations(name) == []
        client.deregister(name, purge=True)

    def test_a_stopped_job_comes_back_by_its_index(self, client, name):
        client.register(job(name), 0)
        client.deregister(name, purge=False)
        with pytest.raises(ConflictError):
            client.register(job(name), 0)
        client.register(job(name), client.job(name)["JobModifyIndex"])
        assert client.job(name)["Stop"] is False
        assert running(client, name)

    def test_allocations_tell_whose_they_are_and_how_their_tasks_are(self, client, name):
        client.register(job(name, count=2), 0)
        found = running(client, name)
        assert len(found) == 2
        whole = client.allocation(found[0]["ID"])
        assert (whole["JobID"], whole["Job"]["ID"], whole["TaskStates"]["main"]["State"]) == (name, name, "running")

    def test_an_evaluation_ends_and_names_its_deployment(self, client, name):
        evaluation = client.register(job(name), 0)
        done = until(lambda: (one := client.evaluation(evaluation))["Status"] == "complete" and one)
        assert done["JobID"] == name
        assert "FailedTGAllocs" not in done
        assert "BlockedEval" not in done
        assert client.deployment_of(name)["ID"] == done["DeploymentID"]

    def test_a_deployment_is_given_up_once(self, client, name):
        assert client.deployment_of(name) is None
        client.register(job(name), 0)
        found = until(lambda: client.deployment_of(name))
        assert found["Status"] == "running"
        client.promote(found["ID"])
        client.fail(found["ID"])
        assert client.deployment_of(name)["Status"] == "failed"
        with pytest.raises(DeployError, match="terminal deployment"):
            client.fail(found["ID"])

    def test_the_end_of_a_log_is_read(self, client, world, name):
        client.register(job(name, "echo first; echo ünd 読; exec sleep 1000"), 0)
        (found,) = running(client, name)
        world.wrote(found["ID"], "first\nünd 読\n")
        assert client.logs(found["ID"], "main", "stdout", 10_000) == "first\nünd 読\n"
        assert client.logs(found["ID"], "main", "stdout", len("ünd 読\n".encode())) == "ünd 読\n"
        assert client.logs(found["ID"], "main", "stderr", 10_000) == ""

    def test_services_are_there_while_their_task_runs(self, client, name):
        assert client.services(name) == []
        client.register(job(name), 0)
        (found,) = running(client, name)
        (service,) = until(lambda: client.services(name))
        assert (service["AllocID"], service["JobID"], service["Address"]) == (found["ID"], name, "127.0.0.1")
        assert service["Port"] >= 20000
        client.deregister(name, purge=True)
        until(lambda: client.services(name) == [])


def test_what_is_not_there(client):
    assert client.logs(NOTHING, "main", "stdout", 10) == ""
    for deed in (client.allocation, client.evaluation, client.promote, client.fail):
        with pytest.raises(DeployError, match="not found"):
            deed(NOTHING)
    assert client.raw("GET", "no/such/path").status == 404


class TestVariables:
    def test_a_variable_is_made_once(self, client, name):
        assert client.variable(name) is None
        begun = time.monotonic()
        index = client.put_variable(name, {"a": "1", "b": ""}, 0)
        found = client.variable(name)
        assert (found.items, found.index) == ({"a": "1", "b": ""}, index)
        assert 0 <= found.age <= time.monotonic() - begun + 1
        assert client.put_variable(name, {"a": "2"}, 0) is None
        assert client.variable(name).items == {"a": "1", "b": ""}

    def test_a_variable_is_changed_by_who_knows_its_index(self, client, name):
        first = client.put_variable(name, {"a": "1"}, 0)
        second = client.put_variable(name, {"a": "2"}, first)
        assert second > first
        assert client.put_variable(name, {"a": "3"}, first) is None
        assert client.variable(name).items == {"a": "2"}

    def test_a_variable_that_was_deleted_may_be_made_again(self, client, name):
        first = client.put_variable(name, {"a": "1"}, 0)
        client.delete_variable(name)
        assert client.variable(name) is None
        client.delete_variable(name)
        assert client.put_variable(name, {"a": "2"}, first) is None
        assert client.put_variable(name, {"a": "2"}, 0) > first

    def test_the_age_of_a_variable_is_that_of_its_last_change(self, client, name):
        index = client.put_variable(name, {"a": "1"}, 0)
        time.sleep(2.1)
        old = client.variable(name).age
        begun = time.monotonic()
        client.put_variable(name, {"a": "2"}, index)
        assert old > 1
        assert client.variable(name).age <= time.monotonic() - begun + 1

    def test_variables_are_listed_by_prefix(self, client, name):
        for path in ("b", "a/1", "a/2"):
            client.put_variable(f"{name}/{path}", {"x": "y"}, 0)
        assert client.variables(f"{name}/a/") == [f"{name}/a/1", f"{name}/a/2"]
        assert client.variables(f"{name}/") == [f"{name}/a/1", f"{name}/a/2", f"{name}/b"]
        assert client.variables(f"{name}/none") == []

    def test_any_text_comes_back_as_it_was_written(self, client, name):
        items = {"Key-with_every.thing": '{"a": "\\u00fc\n\t${x} %{y} {{ z }} <&>"}\x00\U0001f600', "x": "  "}
        client.put_variable(name, items, 0)
        assert client.variable(name).items == items

    def test_a_variable_has_at_most_64_kib(self, client, name):
        fits = {"a": "x" * 65_000, "b": "ü" * 267}
        assert sum(len((key + value).encode()) for key, value in fits.items()) == 65_536
        index = client.put_variable(name, fits, 0)
        with pytest.raises(DeployError, match="64KiB") as refused:
            client.put_variable(name, fits | {"a": "x" * 65_001}, index)
        assert refused.value.exit_code == 1
        assert f"refuses to write the variable `{name}`" in refused.value.message
        assert client.variable(name).items == fits

    def test_of_many_who_count_at_once_none_is_lost(self, world, name):
        times, clients = 8, [world.client() for _ in range(4)]

        def count(mine):
            done = 0
            while done < times:
                found = mine.variable(name)
                number, index = (int(found.items["n"]), found.index) if found else (0, 0)
                done += mine.put_variable(name, {"n": str(number + 1)}, index) is not None

        threads = [threading.Thread(target=count, args=(mine,)) for mine in clients]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert clients[0].variable(name).items == {"n": str(times * len(clients))}


class TestBlockingQueries:
    def test_a_change_ends_the_wait(self, client, world, name):
        index = client.put_variable(name, {"a": "1"}, 0)
        path = f"var/{name}"
        seen = client.raw("GET", path)
        begun = time.monotonic()
        threading.Timer(0.5, lambda: world.client().put_variable(name, {"a": "2"}, index)).start()
        answer = client.raw("GET", path, params={"index": seen.index, "wait": "60s"}, seconds=90)
        assert 0.3 < time.monotonic() - begun < 30
        assert answer.index > seen.index
        assert answer.body["Items"] == {"a": "2"}

    def test_the_first_write_of_a_variable_ends_the_wait_for_it(self, client, world, name):
        seen = client.raw("GET", f"var/{name}")
        assert seen.status == 404
        begun = time.monotonic()
        threading.Timer(0.5, lambda: world.client().put_variable(name, {"a": "1"}, 0)).start()
        while seen.status == 404 and time.monotonic() < begun + 90:
            params = {"index": max(1, seen.index), "wait": "60s"}
            seen = client.raw("GET", f"var/{name}", params=params, seconds=90)
        assert seen.status == 200
        assert 0.3 < time.monotonic() - begun < 30

    def test_without_a_change_the_wait_ends_by_itself(self, client, name):
        client.put_variable(name, {"a": "1"}, 0)
        seen = client.raw("GET", f"var/{name}")
        begun = time.monotonic()
        answer = client.raw("GET", f"var/{name}", params={"index": seen.index, "wait": "1s"}, seconds=30)
        assert 0.9 < time.monotonic() - begun < 20
        assert answer.body["Items"] == {"a": "1"}

    def test_a_service_that_comes_ends_the_wait(self, client, world, name):
        seen = client.raw("GET", f"service/{name}")
        threading.Timer(0.3, lambda: world.client().register(job(name), 0)).start()
        found, index, end = [], seen.index, time.monotonic() + 60
        while not found and time.monotonic() < end:
            answer = client.raw("GET", f"service/{name}", params={"index": index, "wait": "5s"}, seconds=30)
            found, index = answer.body, max(1, answer.index)
        client.deregister(name, purge=True)
        assert found


class TestNamespaces:
    def test_one_that_is_not_there_is_told_before_anything_is_written(self, world, client, name):
        nowhere = world.client(namespace="nowhere")
        for deed in (
            nowhere.check,
            lambda: nowhere.put_variable(name, {"a": "1"}, 0),
            lambda: nowhere.register(job(name, namespace="nowhere"), 0),
            lambda: nowhere.job(name),
        ):
            with pytest.raises(UnusableInputError, match="there is no namespace `nowhere`") as refused:
                deed()
            assert refused.value.exit_code == 2
        assert client.raw("GET", f"var/{name}", params={"namespace": "nowhere"}).status == 404

    def test_each_is_a_place_of_its_own(self, world, client, name):
        other = world.client(namespace="other")
        client.put_variable(name, {"a": "1"}, 0)
        assert other.variable(name) is None
        other.put_variable(name, {"a": "2"}, 0)
        assert client.variable(name).items == {"a": "1"}
        assert other.variables(name) == [name]
        other.register(job(name, namespace="other"), 0)
        assert client.job(name) is None
        (found,) = running(other, name)
        assert other.allocation(found["ID"])["Namespace"] == "other"
        assert other.evaluation(other.register(job(name, namespace="other"), None))["Namespace"] == "other"
        until(lambda: other.services(name))
        assert client.services(name) == []
        other.deregister(name, purge=True)
        assert other.job(name) is None


class TestRights:
    def test_no_token(self, world):
        with pytest.raises(UnusableInputError, match="without a token: `read-job` in namespace `default`") as refused:
            world.client(token="").job("x")
        assert refused.value.exit_code == 2
        assert "`NOMAD_TOKEN`" in refused.value.hint

    @pytest.mark.parametrize("token", [NOTHING, "not-even-an-id"])
    def test_a_token_that_is_not_known(self, world, token):
        with pytest.raises(UnusableInputError, match="it is not known there"):
            world.client(token=token).job("x")

    @pytest.mark.parametrize(
        ("deed", "lacks"),
        [
            (lambda one: one.job("x"), "`read-job` in namespace `default`"),
            (lambda one: one.allocations("x"), "`read-job` in namespace `default`"),
            (lambda one: one.services("x"), "`read-job` in namespace `default`"),
            (lambda one: one.register(job("x"), 0), "`submit-job` in namespace `default`"),
            (lambda one: one.plan(job("x")), "`submit-job` in namespace `default`"),
            (lambda one: one.deregister("x", purge=True), "`submit-job` in namespace `default`"),
            (lambda one: one.variable("nomad/jobs/x"), "`read` on variables `nomad/jobs/x*`"),
            (lambda one: one.put_variable("nomad/jobs/x", {"a": "b"}, 0), "`write` on variables `nomad/jobs/x*`"),
            (lambda one: one.delete_variable("nomad/jobs/x"), "`destroy` on variables `nomad/jobs/x*`"),
        ],
        ids=lambda one: None if callable(one) else one,
    )
    def test_each_deed_names_the_right_that_is_missing(self, world, deed, lacks):
        token = world.token(Grant(capabilities=frozenset({"list-jobs"})))
        with pytest.raises(UnusableInputError, match="the token in `NOMAD_TOKEN` lacks") as refused:
            deed(world.client(token=token))
        assert lacks in refused.value.message
        assert lacks.split("`")[1] in refused.value.hint

    def test_logs_and_deployments_ask_for_a_right_too(self, world, client, name):
        client.register(job(name), 0)
        (found,) = running(client, name)
        mine = world.client(token=world.token(Grant(capabilities=frozenset({"read-job"}))))
        with pytest.raises(UnusableInputError, match=r"refuses to read logs: .* lacks `read-logs` in namespace"):
            mine.logs(found["ID"], "main", "stdout", 9)
        with pytest.raises(UnusableInputError, match=r"refuses to fail the deployment: .* lacks `submit-job`"):
            mine.fail(mine.deployment_of(name)["ID"])
        client.deregister(name, purge=True)

    def test_a_right_in_another_namespace_is_none(self, world):
        token = world.token(Grant(capabilities=frozenset({"read-job"})))
        assert world.client(token=token).job("x") is None
        with pytest.raises(UnusableInputError, match="in namespace `other`"):
            world.client(token=token, namespace="other").job("x")

    def test_rights_that_are_enough(self, world, name):
        rights = frozenset({"read-job", "submit-job", "read-logs"})
        path = f"nomad/jobs/{name}"
        token = world.token(Grant(capabilities=rights, variables={f"{path}*": frozenset({"read", "write", "list"})}))
        mine = world.client(token=token)
        mine.check()
        mine.put_variable(path, {"a": "1"}, 0)
        assert mine.variables(path) == [path]
        mine.register(job(name), 0)
        assert running(mine, name)
        mine.deregister(name, purge=True)
        with pytest.raises(UnusableInputError, match="`destroy` on variables"):
            mine.delete_variable(path)

    def test_what_may_not_be_listed_seems_not_to_be_there(self, world, client, name):
        client.put_variable(f"{name}/a", {"x": "y"}, 0)
        rights = frozenset({"read-job"})
        assert world.client(token=world.token(Grant(capabilities=rights))).variables(name) == []
        for enough in ("read", "list"):
            grant = Grant(capabilities=rights, variables={f"{name}*": frozenset({enough})})
            assert world.client(token=world.token(grant)).variables(name) == [f"{name}/a"]

    def test_the_version_is_told_to_who_may_know_it(self, world, client):
        assert client.version().split(".")[0].isdecimal()
        assert world.client(token=world.token(Grant(capabilities=frozenset({"read-job"})))).version() is None
