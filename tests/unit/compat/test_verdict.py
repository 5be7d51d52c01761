"""What a model needs, held against what a server provides."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_deploy.compat.provides import Provides
from mlops_deploy.compat.verdict import compare, overall
from mlops_deploy.compat.versions import same_minor

LABEL = {
    "python": "3.11.2",
    "platform": "linux/x86_64",
    "formats": ["joblib", "pickle", "skops"],
    "packages": {"scikit-learn": "1.9.1", "numpy": "2.4.6", "Category_Encoders": "2.8.0", "onnxruntime": "1.19.2"},
}
SERVER = Provides.of(LABEL)


def level(requirement: str, provides: Provides | None = SERVER) -> str:
    return overall(compare((), (requirement,), provides))


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("scikit-learn~=1.9.1", "ok"),
        ("scikit-learn~=1.9.0", "ok"),
        ("scikit-learn~=1.5.2", "fail"),
        ("scikit-learn~=1.9.2", "fail"),
        ("Scikit_Learn==1.9.1", "ok"),
        ("scikit-learn", "ok"),
        ("numpy>=2", "ok"),
        ("numpy>=2.3.1", "warn"),
        ("numpy>=2.4.1", "ok"),
        ("numpy<2", "fail"),
        ("category-encoders>=2.8.0", "ok"),
        ("xgboost", "fail"),
        ("python>=3.8", "ok"),
        ("python>=3.12", "fail"),
        ("onnx-ir>=10", "ok"),
        ("onnx-opset>=21", "ok"),
        ("onnx-opset>=22", "fail"),
        ("onnx-ml-opset>=5", "fail"),
        ("xgboost-cpu", "fail"),
        ("onnxruntime-gpu>=1.19", "ok"),
        ("onnxruntime-gpu>=1.20", "fail"),
        ('numpy>=99; python_version < "3.9"', "ok"),
        ('numpy>=99; python_version >= "3.9"', "fail"),
        ('pywin32; sys_platform == "win32"', "ok"),
        ('numpy>=99; sys_platform == "linux"', "fail"),
        ('numpy>=99; extra == "gpu"', "ok"),
        ("what is this", "unknown"),
        ("scikit-learn==_", "unknown"),
    ],
)
def test_each_requirement_has_a_verdict(requirement: str, expected: str) -> None:
    assert level(requirement) == expected


def test_of_a_server_that_says_nothing_nothing_is_known() -> None:
    assert {level(text, None) for text in ("numpy>=2", "python>=3.8", "onnx-ir>=8")} == {"unknown"}
    assert overall(compare(("onnx",), (), None)) == "unknown"


def test_a_table_of_a_preset_does_not_list_all() -> None:
    preset = Provides.of({"onnxruntime": "1.27.0", "cuda": "13.1"}, ("onnx",))
    assert level("torch", preset) == "unknown"
    assert level("onnx-opset>=21", preset) == "ok"
    assert level("onnx-opset>=25", preset) == "unknown", "a later runtime may know it"
    assert overall(compare(("onnx",), (), preset)) == "ok"


def test_one_format_that_is_read_will_do() -> None:
    assert overall(compare(("mlflow", "pickle"), (), SERVER)) == "ok"
    (verdict,) = compare(("onnx",), (), SERVER)
    assert (verdict.level, verdict.said) == ("fail", "the server reads joblib, pickle, skops")
    assert verdict.fix == "write the model as joblib or pickle or skops, or use a server that reads onnx"


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("xgboost>=2", "xgboost-cpu"),
        ("tensorflow>=2", "tensorflow-cpu"),
        ("opencv-python>=2", "opencv-python-headless"),
    ],
)
def test_a_package_may_be_there_by_another_name(wanted: str, there: str) -> None:
    provides = Provides.of({"packages": {there: "3.0"}})
    assert level(wanted, provides) == "ok"
    assert level(wanted.replace("2", "4"), provides) == "fail"


def test_a_marker_is_not_decided_for_a_python_that_is_not_known() -> None:
    assert level('numpy>=99; python_version < "3.9"', Provides.of({"packages": {"numpy": "2"}})) == "unknown"
    assert level('numpy>=99; python_version < "3.9"', Provides.of({"packages": {}, "python": "?"})) == "unknown"


@pytest.mark.parametrize("version", ["1.6.dev0", "1.6rc1", "1.6", "1.6.0rc1", "1.6.1.post1", "1.6.2+cpu", "2!1.6.dev0"])
def test_what_a_version_pickled_it_reads_itself(version: str) -> None:
    (wanted,) = same_minor("scikit-learn", version)
    assert level(wanted, Provides.of({"packages": {"scikit-learn": version}})) == "ok"
    assert level(wanted, Provides.of({"packages": {"scikit-learn": "1.7.0"}})) == "fail"


def test_files_of_several_versions_have_a_way_out_of_their_own() -> None:
    (verdict,) = compare((), ("scikit-learn~=1.8.2,~=1.9.0",), SERVER)
    assert verdict.fix == (
        "make all files of the model with one version of scikit-learn, or say at `model.requires` which one counts"
    )


def test_a_failure_names_the_way_out() -> None:
    (version,) = compare((), ("scikit-learn~=1.5.2",), SERVER)
    assert version.said == "the server has scikit-learn 1.9.1"
    assert version.fix == (
        "use a server with scikit-learn~=1.5.2: `mlops-deploy build-server --constraints FILE`, or make the model "
        "again with scikit-learn 1.9.1"
    )
    (missing,) = compare((), ("xgboost",), SERVER)
    assert missing.said == "the server has no xgboost"
    (python,) = compare((), ("python>=3.12",), SERVER)
    assert python.fix is not None
    assert "--base IMAGE" in python.fix
    (onnx,) = compare((), ("onnx-opset>=22",), SERVER)
    assert onnx.fix == "use a server with a later ONNX Runtime, or write the model again with onnx-opset 21 or earlier"


def test_a_model_that_needs_nothing_fits_anywhere() -> None:
    assert compare((), (), None) == ()
    assert overall(()) == "ok"


@pytest.mark.parametrize(
    "said", [{}, {"packages": [1]}, {"packages": {"numpy": 2}}, {"formats": "all"}, {"python": 3}, {"onnxruntime": "x"}]
)
def test_a_label_of_somebody_else_may_be_anything(said: dict[str, object]) -> None:
    provides = Provides.of(json.loads(json.dumps(said)))
    assert level("python>=3.8", provides) == "unknown"
    assert level("onnx-ir>=8", provides) == "unknown"


_WORD = st.text("ab-_.1", max_size=5)
_SPECIFIER = st.builds(
    str.__add__, st.sampled_from(["===", "==", "~=", "!=", "<=", ">=", "<", ">"]), st.text("0123.*ab+!-", max_size=6)
)


_REQUIREMENT = st.builds(lambda name, said: name + ",".join(said), _WORD, st.lists(_SPECIFIER, max_size=3))


@given(st.one_of(st.text(max_size=30), _REQUIREMENT), st.one_of(_WORD, st.text("0123.", max_size=6)))
def test_no_requirement_and_no_version_is_a_reason_to_fail(requirement: str, version: str) -> None:
    provides = Provides.of({"packages": {"a": version, "onnxruntime": version}, "python": version})
    (verdict,) = compare((), (requirement,), provides)
    assert verdict.level in {"ok", "warn", "unknown", "fail"}
    assert (verdict.fix is not None) == (verdict.level == "fail")
