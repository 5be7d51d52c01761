"""What real files of many libraries say of themselves, however they are cut into blocks."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from mlops_deploy.compat.sniff import tap
from mlops_deploy.spec.requires import Sniffed

MODELS = Path(__file__).parents[2] / "fixtures" / "models"

SAME = ("numpy>=2", "scikit-learn~=1.9.1")
OLD = ("numpy", "scikit-learn~=1.5.2")
SAID = {
    "ir10-opset21.onnx": ("onnx", "onnx-ir>=10", "onnx-opset>=21"),
    "ir8-opset17-ml3.onnx": ("onnx", "onnx-ir>=8", "onnx-ml-opset>=3", "onnx-opset>=17"),
    "keras-3.15.1.keras": ("keras", "keras>=3.15.1"),
    "lightgbm-4.7.0.pkl": ("pickle", "lightgbm", *SAME),
    "lightgbm-4.7.0.txt": ("lightgbm", "lightgbm>=4"),
    "llama.gguf": ("gguf",),
    "metadata.safetensors": ("safetensors",),
    "mlflow/MLmodel": ("mlflow",),
    "mlflow/model.pkl": ("pickle", *SAME),
    "mlflow/python_env.yaml": ("mlflow-environment", "python>=3.11"),
    "mlflow/requirements.txt": (
        "mlflow-environment", "cloudpickle>=3.1.2", "pandas>=3.1.1", "rich>=15.0.0", "scikit-learn~=1.9.1"
    ),
    "numpy-scalar.pkl": ("pickle", "numpy>=2"),
    "plain.safetensors": ("safetensors",),
    "sklearn-1.5.2-p2.pkl": ("pickle", *OLD),
    "sklearn-1.5.2-p5.pkl": ("pickle", "numpy", "python>=3.8", "scikit-learn~=1.5.2"),
    "sklearn-1.5.2.joblib": ("joblib", *OLD),
    "sklearn-1.9.1-p0.pkl": ("pickle-protocol-0",),
    "sklearn-1.9.1-p2.pkl": ("pickle", *SAME),
    "sklearn-1.9.1-p3.pkl": ("pickle", *SAME),
    "sklearn-1.9.1-p4.pkl": ("pickle", *SAME),
    "sklearn-1.9.1-p5.pkl": ("pickle", "numpy>=2", "python>=3.8", "scikit-learn~=1.9.1"),
    "sklearn-1.9.1.bz2.joblib": ("joblib", *SAME),
    "sklearn-1.9.1.gzip.joblib": ("joblib", *SAME),
    "sklearn-1.9.1.joblib": ("joblib", *SAME),
    "sklearn-1.9.1.lz4.joblib": ("joblib-lz4",),
    "sklearn-1.9.1.lzma.joblib": ("joblib", *SAME),
    "sklearn-1.9.1.skops": ("skops", "numpy", "scikit-learn~=1.9.1"),
    "sklearn-1.9.1.xz.joblib": ("joblib", *SAME),
    "sklearn-1.9.1.zlib.joblib": ("joblib", *SAME),
    "spacy/meta.json": ("spacy", "spacy<3.9.0,>=3.8.18"),
    "xgboost-3.2.0.json": ("xgboost", "xgboost>=3.2.0"),
    "xgboost-3.2.0.pkl": ("pickle", "xgboost~=3.2.0"),
    "xgboost-3.2.0.ubj": ("xgboost", "xgboost>=3.2.0"),
}  # fmt: skip


def sniffed(name: str, data: bytes, *cuts: int) -> Sniffed:
    looking = tap(name)
    edges = (0, *cuts, len(data))
    for start, end in pairwise(edges):
        looking.feed(memoryview(bytearray(data[start:end])))
    return looking.found()


def test_every_file_is_expected() -> None:
    there = {str(path.relative_to(MODELS)) for path in MODELS.rglob("*") if path.is_file()}
    assert there - {"README.md"} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_a_real_file_says_what_it_is_and_needs(name: str) -> None:
    form, *requires = SAID[name]
    assert sniffed(name, (MODELS / name).read_bytes()) == Sniffed(format=form, requires=tuple(requires))


@pytest.mark.parametrize("name", SAID)
def test_blocks_may_end_anywhere(name: str) -> None:
    data = (MODELS / name).read_bytes()
    whole, dice = sniffed(name, data), random.Random(name)
    assert sniffed(name, data, *range(len(data))) == whole
    for _ in range(20):
        assert sniffed(name, data, *sorted(dice.choices(range(len(data)), k=5))) == whole


@pytest.mark.parametrize("name", [name for name in SAID if "/" not in name])
def test_a_file_is_known_by_its_content(name: str) -> None:
    data = (MODELS / name).read_bytes()
    assert sniffed("a/b/model", data) == sniffed(name, data)


@pytest.mark.parametrize("name", SAID)
def test_a_torn_file_is_no_reason_to_fail(name: str) -> None:
    data = (MODELS / name).read_bytes()
    for end in {*range(0, len(data), max(1, len(data) // 40)), *range(min(64, len(data)))}:
        found = sniffed(name, data[:end])
        assert found.format in {None, SAID[name][0], "pickle", "joblib"}


def test_what_is_asked_twice_is_answered_twice() -> None:
    looking = tap("m")
    looking.feed((MODELS / "sklearn-1.9.1.joblib").read_bytes())
    assert looking.found() is looking.found()


def test_unknown_content_is_let_go_at_once() -> None:
    looking = tap("weights.bin")
    looking.feed(b"\x00" * 5000)
    assert looking.done
    assert looking.found() == Sniffed()
