"""What one file of a model says of itself, told by its first bytes; the name counts only for files known by it."""

from collections.abc import Callable
from typing import Final

from mlops_deploy.compat import heads, inflate, onnx, pickles, savedmodel, zips
from mlops_deploy.compat.documents import KNOWN, document
from mlops_deploy.compat.reader import Parser, Peek, Reader
from mlops_deploy.spec.requires import Sniffed

REVISION: Final = 2
"""Counts up when the same bytes may be told to be something else."""

_HEAD: Final = 4096
"""Bytes after which it is decided what a file is."""

_NOTHING: Final = Sniffed()
"""Of most files nothing is known: one for all of them."""

_BEGINNINGS: Final[tuple[Callable[[bytes], Parser | None], ...]] = (
    zips.begin,
    pickles.begin,
    inflate.begin,
    heads.begin,
    savedmodel.begin,
    onnx.begin,
)


def tap(path: str) -> Reader:
    """What looks at the bytes of the file `path` (its path inside the model) as they pass."""
    return Reader(_parse(path.rpartition("/")[2]))


def _parse(name: str) -> Parser:
    if name in KNOWN:
        return (yield from document(name))
    head = yield Peek(_HEAD)
    for begin in _BEGINNINGS:
        if (parser := begin(head)) is not None:
            return (yield from parser)
    return _NOTHING
