"""What docs/nomad.md says that a token needs is enough for a release, and for the way back."""

import re
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration import nomad_agent, nomad_service, releasing

pytestmark = [pytest.mark.nomad, pytest.mark.docker]

PAGE = Path(__file__).parents[2] / "docs" / "nomad.md"


def rules(service: str) -> str:
    """The policy of the page, for `service`."""
    found = re.search(r"```hcl\n(namespace .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert "digits-router" in found[1]
    return found[1].replace("digits", service)


@pytest.fixture(scope="module")
def strict_agent():
    with TemporaryDirectory(prefix="nomad-") as folder, nomad_agent.agent(Path(folder) / "n", acl=True) as one:
        yield one


def test_the_rights_of_the_page_are_enough(tiny_image, strict_agent, tmp_path):
    with releasing.services(tmp_path, partial(nomad_service.NomadService, agent=strict_agent)) as make:
        service = make()
        strict_agent.ask("POST", f"/v1/acl/policy/{service.name}", {"Name": service.name, "Rules": rules(service.name)})
        token = {"Name": service.name, "Type": "client", "Policies": [service.name]}
        service.environment["NOMAD_TOKEN"] = strict_agent.ask("POST", "/v1/acl/token", token)["SecretID"]
        versions = service.build_all(0, 100)
        service.release(0)
        service.release(100)
        assert service.serves() == versions[100]
        service.run("rollback")
        assert service.serves() == versions[0]
        for verb in ("plan", "status", "history", "logs", "freeze", "unfreeze", "tend"):
            service.run(verb, *(("-m", "because") if verb == "freeze" else ()))
        service.run("down", "--volumes")
        assert not [one for one in service.jobs().values() if not one["Stop"]]
