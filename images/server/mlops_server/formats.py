"""Which file of a folder is the model, and how it is written: told by content, never by extension; nothing is run."""

import bz2
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Format = Literal["joblib", "pickle", "skops"]
FORMATS: Final[tuple[Format, ...]] = ("joblib", "pickle", "skops")

_HEAD: Final = 64 * 1024
_PICKLE: Final = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_OLD_PICKLE: Final = re.compile(rb"c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n")  # begins by naming a class; no mark before it
_LZ4: Final = b"\x04\x22\x4d\x18"
_JOBLIB: Final = b"joblib.numpy_pickle"
_COMPRESSED: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"\x1f\x8b", lambda head: zlib.decompressobj(wbits=31).decompress(head, 2)),
    (b"BZh", lambda head: bz2.BZ2Decompressor().decompress(head, 2)),
    (b"\xfd7zXZ\x00", lambda head: lzma.LZMADecompressor().decompress(head, 2)),
    (b"\x5d\x00\x00", lambda head: lzma.LZMADecompressor().decompress(head, 2)),
    (b"\x78", lambda head: zlib.decompressobj().decompress(head, 2)),
)


class ModelFileError(Exception):
    """The folder holds no file, or no one file, that this server can serve."""

    exit_code = 65


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """The file that is the model, and its format."""

    path: Path
    format: Format


def find(folder: Path) -> ModelFile:
    """The only file of a known format directly in `folder`, or the only one of them called `model.*`.

    Raises `ModelFileError` that names the candidates.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    known = [ModelFile(path=path, format=form) for path in files if (form := recognise(path)) is not None]
    called = [file for file in known if file.path.name.split(".", 1)[0] == "model"]
    for candidates in (known, called):
        if len(candidates) == 1:
            return candidates[0]
    accepted = ", ".join(FORMATS)
    if not known:
        seen = ", ".join(f"`{path.name}`{_advice(path)}" for path in files) or "nothing"
        raise ModelFileError(f"no file of a known format ({accepted}) in `{folder}`: found {seen}")
    names = ", ".join(f"`{file.path.name}` ({file.format})" for file in known)
    raise ModelFileError(f"several files could be the model: {names}; keep one, or call it `model.*`")


def recognise(path: Path) -> Format | None:
    """The format of one file by its first bytes, or None.

    `joblib` and `pickle` differ in name only: both are pickle streams, and joblib reads both. A pickle of protocol 0
    or 1 has no mark and is not recognised.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK\x03\x04"):
        return "skops" if _is_skops(path) else None
    if head.startswith(_PICKLE):
        return "joblib" if _JOBLIB in head else "pickle"
    return "joblib" if _holds_pickle(head) else None


def _advice(path: Path) -> str:
    """What to do about a file that is a model, but written in a way that is not read."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if _OLD_PICKLE.match(head):
        return " (written with pickle protocol 0 or 1: write it again with joblib, or protocol 2 or newer)"
    if head.startswith(_LZ4):
        return " (compressed with lz4: write it again with joblib and another compression, as xz, or none)"
    return ""


def _is_skops(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "schema.json" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def _holds_pickle(head: bytes) -> bool:
    for magic, begin in _COMPRESSED:
        if head.startswith(magic):
            try:
                return begin(head).startswith(_PICKLE)
            except (OSError, EOFError, zlib.error, lzma.LZMAError):
                return False
    return False
