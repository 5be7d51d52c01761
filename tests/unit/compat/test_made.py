"""Formats of frameworks too large to be installed for a test, written here from what their formats say; and bombs."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_deploy.compat.sniff import tap
from mlops_deploy.spec.requires import Sniffed

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
REAL = {path.name: path.read_bytes() for path in sorted(MODELS.rglob("*")) if path.is_file()}


def sniffed(data: bytes, name: str = "model", block: int = 2**20) -> Sniffed:
    looking = tap(name)
    for start in range(0, len(data), block):
        looking.feed(memoryview(data)[start : start + block])
    return looking.found()


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


class Unseekable(io.RawIOBase):
    """What torch's writer does: sizes follow the data, so that no header says them."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED, *, seekable: bool = True) -> bytes:
    file: io.BytesIO | Unseekable = io.BytesIO() if seekable else Unseekable()
    with zipfile.ZipFile(file, "w", method) as archive:  # type: ignore[call-overload]
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue() if isinstance(file, io.BytesIO) else bytes(file.data)


KERAS = {"metadata.json": b'{"keras_version": "3.12.0"}', "config.json": b"{}", "model.weights.h5": bytes(3 * 2**20)}
TORCH = {"m/data.pkl": pickle.dumps({}, 2), "m/byteorder": b"little", "m/data/0": bytes(2 * 2**20), "m/version": b"3\n"}
SCRIPT = {"m/data.pkl": b"", "m/code/__torch__.py": b"", "m/constants.pkl": b"", "m/version": b"3\n"}
SAVED = field(1, 1) + field(2, field(1, field(4, b"serve") + field(5, b"2.19.0")) + field(2, bytes(5000)))


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (KERAS, Sniffed(format="keras", requires=("keras>=3.12.0",))),
        (TORCH, Sniffed(format="torch", requires=("torch>=1.6",))),
        (SCRIPT, Sniffed(format="torchscript", requires=("torch>=1.6",))),
        ({"schema.json": b"{}"}, Sniffed(format="skops")),
        ({"some.txt": b"no model"}, Sniffed()),
    ],
    ids=["keras", "torch", "torchscript", "skops", "none"],
)
def test_archives(entries: dict[str, bytes], said: Sniffed, method: int, *, seekable: bool) -> None:
    assert sniffed(zipped(entries, method, seekable=seekable)) == said


def test_a_torch_file_names_what_it_pickles() -> None:
    data = {"m/data.pkl": b"\x80\x02csentence_transformers.models\nPooling\nq\x00.", "m/version": b"3\n"}
    assert sniffed(zipped(data)).requires == ("sentence-transformers", "torch>=1.6")


def test_a_torch_file_of_old() -> None:
    data = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + b"\x80\x02ctransformers.bert\nBert\nq\x00."
    assert sniffed(data) == Sniffed(format="torch", requires=("transformers",))


def test_a_saved_model() -> None:
    assert sniffed(SAVED) == Sniffed(format="savedmodel", requires=("tensorflow>=2.19.0",))


def test_an_onnx_graph_is_passed_over() -> None:
    graph = bytes(30 * 2**20)
    data = field(1, 9) + field(7, graph) + field(8, field(1, b"") + field(2, 19))
    assert sniffed(data) == Sniffed(format="onnx", requires=("onnx-ir>=9", "onnx-opset>=19"))
    assert sniffed(data[:-1]) == Sniffed()


@pytest.mark.parametrize(
    ("name", "said", "format_", "requires"),
    [
        ("config.json", {"transformers_version": "4.57", "model_type": "bert"}, "huggingface", "transformers>=4.57"),
        ("config.json", {"hidden": 1}, None, None),
        ("config.json", [1], None, None),
        ("meta.json", {"lang": "en", "spacy_version": ">=3.8.0,<3.9.0"}, "spacy", "spacy<3.9.0,>=3.8.0"),
        ("meta.json", {"lang": "en", "spacy_version": "; evil"}, None, None),
    ],
)  # fmt: skip
def test_documents(name: str, said: object, format_: str | None, requires: str | None) -> None:
    found = sniffed(json.dumps(said).encode(), f"model/{name}")
    assert found == Sniffed(format=format_, requires=(requires,) if requires else ())


def test_a_version_far_inside_is_found() -> None:
    inner = REAL["sklearn-1.9.1-p4.pkl"]
    at = inner.index(b"_sklearn_version") - 2
    for filler in (0, *range(256 * 2**10 - at - 30, 256 * 2**10 - at), 20 * 2**20):
        data = inner[:at] + bytes(filler) + inner[at:]
        assert "scikit-learn~=1.9.1" in sniffed(data).requires
        assert "scikit-learn~=1.9.1" in sniffed(zlib.compress(data, 1)).requires


@pytest.mark.parametrize(
    "bomb",
    [
        zlib.compress(b"\x80\x04" + bytes(400 * 2**20)),
        gzip.compress(b"\x80\x04csklearn.a\nb\n" + bytes(400 * 2**20), compresslevel=1),
        lzma.compress(b"\x80\x04" + bytes(300 * 2**20), preset=0),
        bz2.compress(b"\x80\x04" + bytes(200 * 2**20), 1),
        lzma.compress(b"\x80\x04", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**30}]),
        zipped({"metadata.json": bytes(100 * 2**20), "config.json": b""}, zipfile.ZIP_DEFLATED),
        b"\x08\x08\x12\x01a" + b"\x08\x01" * 2_000_000,
        b"{" + b'"learner":' + b"[" * 2_000_000,
        (1000).to_bytes(8, "little") + b'{"a":{"dtype":' + b"[" * 2_000_000,
        b"\x80\x04" + b"\x8c\xff" * 4_000_000,
        b"\x80\x04" + b"\x8cx" + b"a" * 16_000_000,
        b"\x80\x04" + b"c" + b"a." * 8_000_000,
        b"\x80\x04" + b"_sklearn_version\x94\x8c" * 500_000,
        b"PK\x03\x04" * 4_000_000,
        b"PK\x03\x04" + b"PK\x01\x02" * 200_000 + b"PK\x05\x06" + b"\xff" * 18,
    ],
    ids=["zlib", "gzip", "xz", "bz2", "dictionary", "zip", "fields", "json", "header", "marks", "name", "global",
         "keys", "locals", "directory"],
)  # fmt: skip
def test_what_is_made_to_hurt_does_not(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        started = time.thread_time()
        sniffed(bomb)
        seconds, (_, peak) = time.thread_time() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < 5
    assert peak < 40 * 2**20


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_nothing_makes_it_fail(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(REAL)))
    content = bytearray(REAL[name])
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, max(0, min(len(content) - 1, 4000))))
        match data.draw(st.sampled_from(["set", "cut", "add", "drop"])):
            case "set" if content:
                content[at % len(content)] = data.draw(st.integers(0, 255))
            case "cut":
                del content[at:]
            case "add":
                content[at:at] = data.draw(st.binary(max_size=20))
            case _:
                del content[at : at + data.draw(st.integers(1, 50))]
    whole = sniffed(bytes(content), name)
    assert isinstance(whole, Sniffed)
    assert sniffed(bytes(content), name, block=data.draw(st.integers(1, 700))) == whole


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", b"\x80\x04", b"\x1f\x8b\x08", b"PK\x03\x04", b"GGUF", b"\x08\x08\x12", b"\x08\x01\x12",
                        b"{L\0\0\0\0\0\0\0\x07learner{", b'{"learner":', b"tree\nversion=v", b"BZh91AY&SY"]),
       st.binary(max_size=3000))  # fmt: skip
def test_nor_does_noise(start: bytes, noise: bytes) -> None:
    assert isinstance(sniffed(start + noise), Sniffed)
