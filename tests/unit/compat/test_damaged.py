"""Files that begin as a model does, and are not whole: they are told, and a whole one never is."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest

from mlops_deploy.compat.sniff import tap
from mlops_deploy.spec.requires import Sniffed

MODELS = Path(__file__).parents[2] / "fixtures" / "models"


def looked_at(data: bytes) -> Sniffed:
    looking = tap("m")
    for start in range(0, len(data), 100_000):
        looking.feed(data[start : start + 100_000])
    return looking.found()


@pytest.mark.parametrize("path", [path for path in MODELS.rglob("*") if path.is_file()], ids=lambda path: path.name)
def test_a_whole_one_is_not_told(path: Path) -> None:
    assert looked_at(path.read_bytes()).damaged is None


@pytest.mark.parametrize(
    ("name", "lost", "said"),
    [
        ("plain.safetensors", 1, "it ends before the tensors do that its header lists"),
        ("metadata.safetensors", 1, "it ends before the tensors do that its header lists"),
        ("keras-3.15.1.keras", 500, "it begins as an archive, and lacks the table of contents that ends one"),
        ("sklearn-1.9.1.skops", 500, "it begins as an archive, and lacks the table of contents that ends one"),
        ("sklearn-1.9.1-p5.pkl", 1, "it does not end as a pickle does: part of it may be missing"),
        ("sklearn-1.9.1.joblib", 1, "it does not end as a pickle does: part of it may be missing"),
    ],
)
def test_what_was_cut_off_is_told(name: str, lost: int, said: str) -> None:
    assert looked_at((MODELS / name).read_bytes()[:-lost]).damaged == said


def test_a_large_pickle_is_looked_at_to_its_end() -> None:
    data = pickle.dumps([bytes(4 << 20) for _ in range(3)], protocol=4)
    assert looked_at(data).damaged is None
    assert looked_at(data[:-1]).damaged is not None
    exactly = pickle.dumps(bytes(2**20), protocol=2)
    assert looked_at(exactly).damaged is None


def test_headers_that_are_none() -> None:
    assert looked_at(b"GGUF\x03\0\0\0" + b"\xde\xad\xbe\xef" * 100).damaged == "its header cannot be read"
    assert looked_at(b"GGUF\x03\0\0\0" + b"\x01").damaged == "its header cannot be read"
    data = (MODELS / "plain.safetensors").read_bytes()
    assert looked_at(data[:30]).damaged == "its header cannot be read"
    header = b'{"a":{"dtype":"F32", and so on'
    found = looked_at(len(header).to_bytes(8, "little") + header + bytes(100))
    assert (found.format, found.damaged) == ("safetensors", "its header cannot be read")


def test_an_archive_of_something_else_is_whole() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("weights", bytes(2_000_000))
    assert looked_at(made.getvalue()) == Sniffed()
