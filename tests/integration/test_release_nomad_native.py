"""One job and the cluster's own canaries: `--native` on a real agent."""

import http.client
import json
import threading
import time

import pytest

from tests.integration.releasing import BODY

pytestmark = [pytest.mark.nomad, pytest.mark.docker]

NATIVE = ("--native", "--strategy", "rolling")


@pytest.fixture
def service(make_service, nomad_agent):
    made = make_service(target="nomad", environment={"NOMAD_ADDR": nomad_agent.address})
    yield made
    made.released = False  # these releases have no journal that a model could accept
    nomad_agent.ask("DELETE", f"/v1/job/{made.name}?purge=true")


@pytest.fixture
def released(service):
    """A service whose first version runs twice."""
    service.configure(nomad={"count": 2})
    versions = service.build_all(0, 100)
    service.release(0, *NATIVE)
    return service, versions


def registered(agent, service, tag=None):
    found = agent.ask("GET", f"/v1/service/{service.name}") or []
    return [one for one in found if tag is None or tag in one["Tags"]]


def ask(service, one):
    client = http.client.HTTPConnection(one["Address"], one["Port"], timeout=5)
    try:
        client.request("POST", f"/v2/models/{service.name}/infer", json.dumps(BODY))
        answer = client.getresponse()
        return answer.status, json.loads(answer.read()).get("model_version")
    finally:
        client.close()


def allocations(agent, service):
    return {
        one["ID"]
        for one in agent.ask("GET", f"/v1/job/{service.name}/allocations")
        if one["DesiredStatus"] == "run" and one["ClientStatus"] == "running"
    }


class Clients(threading.Thread):
    """Who finds servers by the catalogue, takes those with the tag `live`, and tries the next when one has gone."""

    def __init__(self, agent, service):
        super().__init__(daemon=True)
        self.agent, self.service, self.over = agent, service, threading.Event()
        self.versions, self.failed, self.sent = [], 0, 0

    def run(self):
        while not self.over.wait(0.02):
            self.sent += 1
            for one in registered(self.agent, self.service, "live"):
                try:
                    status, version = ask(self.service, one)
                except OSError:
                    continue
                if status == 200:
                    self.versions.append(version)
                    break
            else:
                self.failed += 1


def test_a_first_release_runs_every_server_and_proves_each(released, nomad_agent):
    service, versions = released
    assert [ask(service, one)[1] for one in registered(nomad_agent, service, "live")] == [versions[0]] * 2


def test_the_commands_about_slots_show_the_job_or_name_those_that_do(released):
    service, versions = released
    said = service.run("status").stdout
    assert f"settled: job `{service.name}`, version 0, released with `--native`" in said
    assert versions[0] in said
    assert said.count("server `") == 2
    found = service.json("status")
    assert (found["native"]["state"], len(found["native"]["healthy"]), found["slots"]) == ("settled", 2, None)
    assert service.run("logs", "--task", "bootstrap").stdout.strip()
    assert f"next: nomad job history {service.name}" in service.run("history").stderr
    assert f"`nomad job revert {service.name} VERSION`" in service.run("rollback", code=2).stderr
    down = service.run("down").stderr
    assert "that job goes on" in down
    assert f"next: nomad job stop {service.name}" in down


def test_the_plan_says_what_changes_and_what_is_lost(released):
    service, versions = released
    service.use(100)
    said = service.run("plan", *NATIVE, "--model", f"{service.name}:100", "--detailed-exitcode", code=10).stdout
    assert f"{service.name} on nomad: rolling (native), 2 servers" in said
    assert f"{service.name}@{versions[0]} -> {service.name}@{versions[100]}" in said
    assert "no hot rollback" in said
    assert "~ group model.task bootstrap.Config.image: " in said
    assert "~ group model.task server.Env[MODEL_ID]: " in said
    service.use(0)
    assert service.run("plan", *NATIVE, "--model", f"{service.name}:0", "--detailed-exitcode").returncode == 0


def test_servers_are_replaced_behind_a_canary(released, nomad_agent):
    service, versions = released
    before = allocations(nomad_agent, service)
    clients = Clients(nomad_agent, service)
    clients.start()
    said = service.release(100, *NATIVE)
    clients.over.set()
    clients.join()
    assert (said["result"], said["live"]) == ("released", f"{service.name}@{versions[100]}")
    after = allocations(nomad_agent, service)
    assert len(after) == 2
    assert not before & after
    assert (clients.failed, set(clients.versions)) == (0, set(versions.values()))
    assert service.release(100, *NATIVE)["result"] == "nothing"


def test_a_canary_that_does_not_prove_its_model_is_taken_back(released, nomad_agent):
    service, versions = released
    before = allocations(nomad_agent, service)
    service.configure(release={"deadline": "10s"})
    said = service.release(100, *NATIVE, code=4, NEVER_READY="1")
    assert said["live"] == f"{service.name}@{versions[0]}"
    assert allocations(nomad_agent, service) == before
    assert {ask(service, one)[1] for one in registered(nomad_agent, service, "live")} == {versions[0]}


def test_a_server_that_takes_too_much_memory_is_told_and_taken_back(released, nomad_agent):
    service, _ = released
    before = allocations(nomad_agent, service)
    service.use(100)
    service.configure(resources={"memory": "64Mi"}, env={"EATS_MIB": "200"})
    started = time.monotonic()
    done = service.run("release", *NATIVE, "--model", f"{service.name}:100", code=4)
    assert "64 MiB of memory" in done.stderr
    assert time.monotonic() - started < 60
    assert allocations(nomad_agent, service) == before


def test_a_deployment_under_way_is_not_disturbed(released, nomad_agent):
    service, _ = released
    service.use(100)
    first = service.start("release", *NATIVE, "--model", f"{service.name}:100")
    until = time.monotonic() + 60
    while (nomad_agent.ask("GET", f"/v1/job/{service.name}/deployment") or {}).get("Status") != "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    done = service.run("release", *NATIVE, "--model", f"{service.name}:100", code=3)
    assert "is under way" in done.stderr
    assert first.wait(120) == 0


def test_a_service_runs_in_slots_or_as_one_job_and_never_both_ways(make_nomad, nomad_agent):
    service = make_nomad()
    versions = service.build_all(0, 100)
    native = f"/v1/job/{service.name}"
    try:
        service.release(0, *NATIVE)
        service.use(100)
        asked = ("--model", f"{service.name}:100")
        for words in (("plan",), ("release", "--dry-run"), ("release",)):
            said = service.run(*words, *asked, code=2).stderr
            assert f"`{service.name}` runs as one job without slots" in said
            assert f"`nomad job stop {service.name}`" in said
        assert service.jobs() == {}
        nomad_agent.ask("DELETE", native)
        assert service.release(100)["live"] == f"{service.name}@{versions[100]}"
        stopped = nomad_agent.ask("GET", native)
        for words in (("plan",), ("release", "--dry-run"), ("release",)):
            said = service.run(*words, *NATIVE, *asked, code=2).stderr
            assert f"`{service.name}` has slots behind a router" in said
            assert "end them first: `mlops-deploy down`" in said
        assert nomad_agent.ask("GET", native) == stopped
        assert service.serves() == versions[100]
        service.run("down")
        assert "rolling (native)" in service.run("plan", *NATIVE, *asked).stdout
    finally:
        nomad_agent.ask("DELETE", f"{native}?purge=true")


def test_only_a_cluster_has_canaries_of_its_own(make_service):
    service = make_service()
    service.build(0)
    assert "`--native` needs `--target nomad`" in service.run("release", *NATIVE, code=2).stderr


def test_native_releases_are_rolling(service):
    service.build(0)
    refused = service.run("release", "--native", "--strategy", "bluegreen", code=2)
    assert "by the strategy `rolling`" in refused.stderr
