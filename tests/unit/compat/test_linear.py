"""Looking at a file takes time in proportion to its bytes, whatever text it holds: it happens while a file is sent."""

import base64
import io
import pickle
import random
import time
import zipfile
import zlib
from collections.abc import Callable
from itertools import islice
from typing import Final

import pytest

from mlops_deploy.compat import pickles
from mlops_deploy.compat.sniff import tap
from mlops_deploy.spec.requires import Sniffed

SIZE: Final = 2**20
FEW: Final = 3.0
"""Seconds for 1 MiB; on any machine it takes tenths of them."""


def dna() -> bytes:
    return bytes(random.Random(1).choices(b"acgt", k=SIZE))


def text() -> bytes:
    return base64.b64encode(random.Random(2).randbytes(3 * SIZE // 4))


TEXTS: Final[dict[str, Callable[[], bytes]]] = {
    "DNA": dna,
    "base64": text,
    "one letter": lambda: b"c" * SIZE,
    "names of packages": lambda: b"csklearn." * (SIZE // 9),
    "short texts": lambda: b"\x8c\xffsklearn.h" * (SIZE // 11),
    "keys": lambda: (b"_sklearn_versionp" + b"1" * 10_000) * (SIZE // 10_000),
}


def looked_at(data: bytes, name: str = "m.pkl") -> tuple[Sniffed, float]:
    """What is found, and the seconds of this thread that it took."""
    started = time.thread_time()
    looking = tap(name)
    looking.feed(data)
    return looking.found(), time.thread_time() - started


def torch_zip(content: bytes, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", kind) as archive:
        archive.writestr("m/data.pkl", content)
    return made.getvalue()


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_with_a_long_text(kind: str, protocol: int) -> None:
    found, seconds = looked_at(pickle.dumps({"reference": TEXTS[kind](), "by": None}, protocol=protocol))
    assert (found.format, seconds < FEW) == ("pickle", True)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_compressed_one(kind: str) -> None:
    found, seconds = looked_at(zlib.compress(pickle.dumps(TEXTS[kind](), protocol=4)))
    assert (found.format, seconds < FEW) == ("joblib", True)


@pytest.mark.parametrize("kind", TEXTS)
def test_an_archive_of_torch(kind: str) -> None:
    found, seconds = looked_at(torch_zip(TEXTS[kind]()[: 2**19]), "m.pt")
    assert (found.format, seconds < FEW) == ("torch", True)


def test_an_archive_that_names_one_file_very_often() -> None:
    """Headers in a row, each of which says that what is looked for follows the last one: it inflates, and is not."""
    whole = torch_zip(bytes(2**19 - 1))
    local, directory = whole[: whole.index(b"PK\x01\x02")], bytearray(whole[whole.index(b"PK\x01\x02") :])
    directory[16:20] = b"none"
    header, content = local[:40], local[40:]
    headers = b"".join(header[:28] + (40 * left).to_bytes(2, "little") + header[30:] for left in range(1600, -1, -1))
    found, seconds = looked_at((headers + content) * 4 + directory, "m.pt")
    assert (found.format, seconds < FEW / 3) == ("torch", True)


@pytest.mark.parametrize("before", [b"", b"ub", b"q\x05Rq\x06", b"qc", b"e"])
def test_an_instruction_is_found_after_any_other(before: bytes) -> None:
    assert pickles.imports(before + b"csklearn.svm._classes\nSVC\nq\x01") == {"sklearn.svm._classes"}


def test_a_module_is_found_wherever_blocks_end() -> None:
    data = b"\x80\x02" + b"c" * (256 * 2**10 - 9) + b"cxgboost.sklearn\nXGBModel\nq\x00."
    for cut in islice(range(256 * 2**10 - 12, len(data)), 40):
        looking = tap("m")
        looking.feed(data[:cut])
        looking.feed(data[cut:])
        assert looking.found().requires == ("xgboost",)
