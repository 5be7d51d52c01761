"""The Nomad files of the examples: apart by what they are meant to show, and as they are rendered."""

import re
from pathlib import Path

import pytest

from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.config.load import load
from mlops_deploy.render.hcl import hcl
from mlops_deploy.render.nomad import document
from mlops_deploy.spec.refs import ContentId, Digest, ImageRef
from mlops_deploy.spec.rendered import CarrierRef, JobImage

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = EXAMPLES / "nomad-by-hand"
LIFECYCLE = """
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
"""


def body(name: str) -> str:
    """A file without the sentence at its top."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def test_one_block_is_all_that_tells_them_apart() -> None:
    assert body("mended.nomad.hcl").replace(LIFECYCLE, "", 1) == body("faulty.nomad.hcl")
    assert "lifecycle" not in body("faulty.nomad.hcl")


def test_the_rendered_file_is_what_is_rendered(request: pytest.FixtureRequest) -> None:
    path = FOLDER / "rendered.nomad.hcl"
    text = path.read_text(encoding="utf-8")
    carrier, server = (ImageRef.parse(found) for found in re.findall(r'^ +image += "(\S+)"$', text, re.MULTILINE))
    content = re.search(r'"io\.mlops-deploy\.content" = "(\w{64})"$', text, re.MULTILINE)
    assert content is not None
    digest, content_id = Digest(f"{carrier.tag:0<64}"), ContentId(content[1])
    reference = CarrierRef(name=carrier.name, digest=digest, content_id=content_id, size=440_427)
    spec = load(EXAMPLES / "digits" / "mlops.yml", None)
    image = JobImage(ref=str(server), local=True)
    rendered = hcl(document(spec, reference, image, known_preset(spec.preset)))
    if request.config.getoption("--update-golden"):
        path.write_text(rendered, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == rendered
