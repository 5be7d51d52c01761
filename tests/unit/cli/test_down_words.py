"""What `down --volumes` says that it has removed."""

import dataclasses

from mlops_deploy.cli.down import _gone
from mlops_deploy.spec.nomad import NomadSpec, NomadVolume
from tests.unit.api.test_nomad_supply import SPEC


def test_models_in_a_host_volume_stay_and_that_is_said():
    host = dataclasses.replace(SPEC, nomad=NomadSpec(volume=NomadVolume(kind="host", name="models")))
    assert "its models stay in the host volume `models`" in _gone(host, "nomad")
    assert _gone(host, "docker") == _gone(SPEC, "nomad") == "its volumes are removed"
