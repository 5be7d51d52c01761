"""Versions that are compared in their own ways: what comes before a release, and what no package is."""

import pytest

from mlops_deploy.compat.provides import Provides
from mlops_deploy.compat.verdict import compare


def level(requirement: str, **packages: str) -> str:
    (verdict,) = compare((), (requirement,), Provides.of({"packages": packages, "python": "3.13.0rc2"}))
    return verdict.level


@pytest.mark.parametrize(
    ("requirement", "version", "expected"),
    [
        ("numpy>=1.9", "2.0.0rc1", "ok"),
        ("numpy>=1.9", "2.0.0.dev3", "ok"),
        ("numpy", "2.0.0a1", "ok"),
        ("numpy>=2.0.0", "2.0.0rc1", "fail"),
        ("numpy<3", "2.9b1", "ok"),
        ("numpy!=2.0.0rc1", "2.0.0rc1", "fail"),
    ],
)
def test_a_server_with_a_pre_release_has_that_version(requirement: str, version: str, expected: str) -> None:
    assert level(requirement, numpy=version) == expected


@pytest.mark.parametrize("requirement", ["python>=3.8.1", "python~=3.8", "python!=3.9.1,>=3.8.0"])
def test_a_later_python_is_nothing_to_warn_of(requirement: str) -> None:
    assert level(requirement) == "ok"


@pytest.mark.parametrize("requirement", ["onnx-opset>=11.0.0", "onnx-ir>=3.0.0", "onnx-ml-opset>=1.0.0"])
def test_a_later_runtime_is_nothing_to_warn_of(requirement: str) -> None:
    assert level(requirement, onnxruntime="1.19.2") == "ok"


def test_a_package_of_another_minor_version_is() -> None:
    assert level("numpy>=1.9.1", numpy="2.4.6") == "warn"
    assert level("numpy>=2.4.1", numpy="2.4.6") == "ok"
