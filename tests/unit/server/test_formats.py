import bz2
import gzip
import lzma
import pickle
import zipfile
import zlib

import pytest

from mlops_server.formats import ModelFileError, find, recognise

PICKLE = pickle.dumps({"a": list(range(100))})
JOBLIB = b"\x80\x04\x95..joblib.numpy_pickle\x94NumpyArrayWrapper"


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def write_zip(folder, name, *entries):
    with zipfile.ZipFile(folder / name, "w") as archive:
        for entry in entries:
            archive.writestr(entry, "{}")
    return folder / name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_marked_protocol(tmp_path, protocol):
    assert recognise(write(tmp_path, "x", pickle.dumps([1], protocol=protocol))) == "pickle"


def test_joblib_is_told_from_pickle(tmp_path):
    assert recognise(write(tmp_path, "x.txt", JOBLIB)) == "joblib"


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, zlib.compress, lambda d: lzma.compress(d, lzma.FORMAT_ALONE)],
    ids=["gzip", "bz2", "xz", "zlib", "lzma"],
)
def test_compressed_joblib(tmp_path, compress):
    assert recognise(write(tmp_path, "x", compress(PICKLE * 5000))) == "joblib"
    assert recognise(write(tmp_path, "y", compress(b"a,b,c\n" * 1000))) is None


def test_skops_by_its_entries(tmp_path):
    assert recognise(write_zip(tmp_path, "a.pkl", "schema.json", "1.npy")) == "skops"
    assert recognise(write_zip(tmp_path, "b.skops", "metadata.json")) is None


@pytest.mark.parametrize(
    "data", [b"", b"x", b"PK\x03\x04broken", b"\x1f\x8b", b"x\x01", b"BZh", b"\xfd7zXZ\x00", b"\x80\x06"]
)
def test_what_only_looks_like_one_is_none(tmp_path, data):
    assert recognise(write(tmp_path, "model.joblib", data)) is None


def test_the_only_known_file_is_the_model_whatever_its_name(tmp_path):
    write(tmp_path, "README.txt", b"hello")
    write(tmp_path, "weights.bin", PICKLE)
    assert find(tmp_path).path.name == "weights.bin"


def test_among_several_the_one_called_model(tmp_path):
    write(tmp_path, "scaler.pkl", PICKLE)
    write(tmp_path, "model.tar.pkl", PICKLE)
    assert find(tmp_path).path.name == "model.tar.pkl"


@pytest.mark.parametrize("names", [("a.pkl", "b.pkl"), ("model.pkl", "model.joblib")])
def test_several_candidates_are_named(tmp_path, names):
    for name in names:
        write(tmp_path, name, PICKLE)
    with pytest.raises(ModelFileError) as caught:
        find(tmp_path)
    assert all(f"`{name}` (pickle)" in str(caught.value) for name in names)
    assert caught.value.exit_code == 65


def test_no_known_file_names_what_is_there(tmp_path):
    write(tmp_path, "model.onnx", b"\x08\x07")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelFileError, match=r"joblib, pickle, skops.*found `model.onnx`"):
        find(tmp_path)


class Estimator:
    """Something of a class, as every model is."""


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_without_mark_is_told_how_to_be_written(tmp_path, protocol):
    write(tmp_path, "model.pkl", pickle.dumps(Estimator(), protocol=protocol))
    with pytest.raises(ModelFileError, match=r"`model.pkl` \(written with pickle protocol 0 or 1: write it again"):
        find(tmp_path)


def test_lz4_is_told_how_to_be_written(tmp_path):
    write(tmp_path, "model.joblib", b"\x04\x22\x4d\x18\x64\x40\xa7")
    with pytest.raises(ModelFileError, match=r"`model.joblib` \(compressed with lz4: write it again"):
        find(tmp_path)
