"""The Kubernetes files of the examples: valid, apart by what they are meant to show, and as they are rendered."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from mlops_deploy.api.server_inputs import known_preset
from mlops_deploy.config.load import load
from mlops_deploy.render.kubernetes import render_kubernetes
from mlops_deploy.render.layout import read_objects
from mlops_deploy.spec.refs import ContentId, Digest, ImageRef
from mlops_deploy.spec.rendered import CarrierRef, JobImage

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = EXAMPLES / "kubernetes-by-hand"


def objects(name: str) -> Any:
    return read_objects((FOLDER / name).read_text(encoding="utf-8"))


def body(name: str) -> str:
    """A file without the sentence at its top."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("name", ["faulty.yml", "mended.yml", "rendered.yml"])
def test_every_file_is_what_the_published_schemas_want(name: str, version: str) -> None:
    for one in objects(name):
        assert kubernetes_validate.validate(one, version, strict=True) == version


def test_two_lines_are_all_that_tells_them_apart() -> None:
    faulty = body("faulty.yml").replace("      containers:\n", "      initContainers:\n", 1)
    assert faulty.replace("        - name: ml-service\n", "      containers:\n        - name: ml-service\n") == body(
        "mended.yml"
    )


def test_the_rendered_file_is_what_is_rendered(request: pytest.FixtureRequest) -> None:
    path = FOLDER / "rendered.yml"
    text = path.read_text(encoding="utf-8")
    carrier, server = (ImageRef.parse(found) for found in re.findall(r"^ +image: (\S+)$", text, re.MULTILINE))
    content = re.search(r"io\.mlops-deploy\.content: (\w{64})$", text, re.MULTILINE)
    assert content is not None
    digest, content_id = Digest(f"{carrier.tag:0<64}"), ContentId(content[1])
    reference = CarrierRef(name=carrier.name, digest=digest, content_id=content_id, size=440_427)
    spec = load(EXAMPLES / "digits" / "mlops.yml", None)
    image = JobImage(ref=str(server), local=True)
    rendered = render_kubernetes(spec, reference, image, known_preset(spec.preset)).text
    if request.config.getoption("--update-golden"):
        path.write_text(rendered, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == rendered
