"""The state of a service on Nomad is deleted by hand: told at once, laid out anew without a failed request, removed."""

import time

import pytest

pytestmark = [pytest.mark.nomad, pytest.mark.docker]

AT_ONCE = 15
"""Seconds for a whole command, where waiting for a lost answer would take more than twenty."""


def purge(service):
    for one in service.agent.ask("GET", f"/v1/vars?prefix=nomad/jobs/{service.name}-router"):
        service.agent.ask("DELETE", f"/v1/var/{one['Path']}")


def told(service, *words, code):
    started = time.monotonic()
    done = service.run(*words, code=code)
    assert time.monotonic() - started < AT_ONCE, words
    return done.stderr


def test_a_state_that_was_deleted_is_laid_out_anew_under_traffic(make_nomad):
    service = make_nomad()
    versions = service.build_all(0, 100)
    service.release(0)
    purge(service)
    for verb in ("status", "plan", "history", "rollback"):
        said = told(service, verb, code=6)
        assert f"the state of the service is gone: there is no variable `nomad/jobs/{service.name}-router`" in said
        assert "`mlops-deploy router apply` lays it out anew" in said
    assert service.serves() == versions[0]
    with service.load(rate=50) as load:
        said = service.run("router", "apply").stderr
        assert "warning: the state was gone, and is laid out anew" in said
        time.sleep(1)
        count = load.end()
    assert count["failed"] == 0, count
    assert set(count["answered"]) == {versions[0]}
    service.run("status")
    service.release(100)
    assert service.serves() == versions[100]
    service.release(0)
    service.run("rollback")
    assert service.serves() == versions[100]


def test_a_service_without_its_state_is_ended(make_nomad):
    service = make_nomad()
    service.build_all(0)
    service.release(0)
    purge(service)
    said = service.run("down", "--volumes").stderr
    assert "the router is not closed first: the state of the service is gone" in said
    assert not service.jobs()
    assert not service.items()
