"""What is declared and what the files say become one list."""

from mlops_deploy.compat.requires import merged
from mlops_deploy.spec.requires import Sniffed

PICKLE = Sniffed(format="pickle", requires=("numpy>=2", "scikit-learn~=1.9.1"))


def test_what_files_say_is_sorted_and_each_package_is_there_once() -> None:
    found = merged((), {"b.pkl": PICKLE, "a.pkl": Sniffed(format="joblib", requires=("numpy", "lightgbm"))})
    assert found.formats == ("joblib", "pickle")
    assert found.requires == ("lightgbm", "numpy>=2", "scikit-learn~=1.9.1")


def test_the_declaration_of_a_package_wins() -> None:
    found = merged(("Scikit_Learn>=1.5", "polars"), {"m": PICKLE})
    assert found.requires == ("Scikit_Learn>=1.5", "polars", "numpy>=2")


def test_files_of_two_versions_need_both() -> None:
    found = merged((), {"a": PICKLE, "b": Sniffed(format="pickle", requires=("scikit-learn~=1.5.2",))})
    assert "scikit-learn~=1.5.2,~=1.9.1" in found.requires


def test_an_environment_counts_beside_its_mlmodel_alone() -> None:
    pinned = Sniffed(format="mlflow-environment", requires=("pandas>=3.0.0",))
    alone = merged((), {"requirements.txt": pinned, "other/MLmodel": Sniffed(format="mlflow")})
    assert (alone.formats, alone.requires) == (("mlflow",), ())
    beside = merged((), {"m/requirements.txt": pinned, "m/MLmodel": Sniffed(format="mlflow")})
    assert (beside.formats, beside.requires) == (("mlflow",), ("pandas>=3.0.0",))
    top = merged((), {"requirements.txt": pinned, "MLmodel": Sniffed(format="mlflow")})
    assert top.requires == ("pandas>=3.0.0",)


def test_files_that_say_nothing_add_nothing() -> None:
    found = merged(("a",), {"x": Sniffed()})
    assert (found.formats, found.requires) == ((), ("a",))
