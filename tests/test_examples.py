"""Every example is a service that loads, and says the same versions as the server it will run in."""

import json
import re
from pathlib import Path

import pytest

from mlops_deploy.config.load import examine

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SERVICES = sorted(EXAMPLES.glob("**/mlops.yml"))
PINS = re.compile(r"^([A-Za-z0-9_-]+)==(\S+)$", re.MULTILINE)


def shown(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def pins(path: Path) -> dict[str, str]:
    return dict(PINS.findall(path.read_text(encoding="utf-8")))


SERVER = pins(ROOT / "images" / "server" / "constraints.txt")


def test_the_examples_are_all_there() -> None:
    assert [shown(path) for path in SERVICES] == [
        "digits/mlops.yml",
        "multi-model/digits/mlops.yml",
        "multi-model/wine/mlops.yml",
    ]


@pytest.mark.parametrize("path", SERVICES, ids=shown)
def test_every_example_loads_and_its_predictions_will_be_checked(path: Path) -> None:
    examined = examine(path, None)
    complaints = [issue for issue in examined.issues if "there is no model" not in issue.message]
    assert complaints == []
    assert examined.spec is not None
    assert examined.spec.ready.golden
    assert examined.spec.model.requires == (f"scikit-learn=={SERVER['scikit-learn']}",)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/requirements.txt")), ids=shown)
def test_models_are_trained_with_the_packages_that_the_server_has(path: Path) -> None:
    assert {"scikit-learn", "joblib", "numpy", "scipy"} == pins(path).keys()
    assert pins(path).items() <= SERVER.items()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.json")), ids=shown)
def test_requests_to_try_by_hand_fit_the_signature(path: Path) -> None:
    [given] = json.loads(path.read_text(encoding="utf-8"))["inputs"]
    model = path.parent if path.stem == "request" else path.parent / path.stem
    spec = examine(model / "mlops.yml", None).spec
    assert spec is not None
    assert spec.model.signature is not None
    declared = json.loads(json.dumps(spec.model.signature))["inputs"][0]
    assert (given["name"], given["datatype"]) == (declared["name"], declared["datatype"])
    assert given["shape"] == [1, declared["shape"][1]]
    assert len(given["data"]) == declared["shape"][1]


@pytest.mark.parametrize("folder", sorted(path.parent for path in EXAMPLES.glob("*/README.md")), ids=shown)
def test_a_readme_is_one_screen(folder: Path) -> None:
    assert len((folder / "README.md").read_text(encoding="utf-8").splitlines()) <= 60
