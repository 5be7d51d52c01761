"""Whether the user is warned of clients that remove images which nobody can pull."""

from types import SimpleNamespace

import pytest

from mlops_deploy.adapters.nomad.collecting import collects_images
from mlops_deploy.errors import UnreachableError


def agent(client, plugins):
    body = {"config": {"Client": {"Enabled": client}, "Plugins": plugins}}
    return SimpleNamespace(raw=lambda method, path: SimpleNamespace(body=body))


def docker(**gc):
    return [{"Name": "raw_exec", "Config": None}, {"Name": "docker", "Config": {"gc": gc}}]


def test_a_client_that_keeps_images_is_nothing_to_warn_of():
    assert collects_images(agent(client=True, plugins=docker(image=False))) is None


@pytest.mark.parametrize("plugins", [None, [], docker(image=True), docker(), [{"Name": "docker", "Config": {}}]])
def test_a_client_that_removes_them_is_told_with_the_setting(plugins):
    said = collects_images(agent(client=True, plugins=plugins))
    assert said.startswith("the client removes the image")
    assert "gc { image = false }" in said


def test_a_server_knows_nothing_of_the_clients():
    assert collects_images(agent(client=False, plugins=None)).startswith("it is not known whether")


def test_a_token_that_may_not_ask_leaves_it_unknown():
    def refused(*_):
        raise UnreachableError("no")

    assert collects_images(SimpleNamespace(raw=refused)).startswith("it is not known whether")
