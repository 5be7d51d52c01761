"""Pickle streams, searched as bytes and never loaded: which packages they import, and the version of scikit-learn.

Inside a joblib file raw arrays stand between the instructions, so that a parser of instructions alone would stop there.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from mlops_deploy.compat.reader import Parser, Rest, told
from mlops_deploy.compat.ubj import last_version
from mlops_deploy.compat.versions import same_minor
from mlops_deploy.spec.requires import Sniffed

_WINDOW: Final = 256 * 2**10
_OVERLAP: Final = 1024
"""More than the longest thing that is looked for."""

_IMPORTS_WITHIN: Final = 8 * 2**20
"""Bytes in which imports are looked for; versions are everywhere."""

_STOP: Final = b"."
_MARKED: Final = re.compile(rb"\x80[\x02-\x05]")
_UNMARKED: Final = re.compile(rb"c[A-Za-z_][\w.]{0,255}\n[A-Za-z_][\w.]{0,255}\n")
_TORCH: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How what torch wrote before version 1.6 begins, after the mark of its protocol."""

_LONGEST_VERSION: Final = 64
_SINCE_PYTHON_3_8: Final = 5
_MOST_KEYS: Final = 100
"""How often in one window the key may stand before something that is no version."""

PACKAGES: Final = {
    "catboost": "catboost",
    "category_encoders": "category-encoders",
    "cloudpickle": "cloudpickle",
    "cuml": "cuml",
    "dill": "dill",
    "feature_engine": "feature-engine",
    "gensim": "gensim",
    "imblearn": "imbalanced-learn",
    "interpret": "interpret",
    "keras": "keras",
    "lightgbm": "lightgbm",
    "networkx": "networkx",
    "nltk": "nltk",
    "numpy": "numpy",
    "pandas": "pandas",
    "polars": "polars",
    "prophet": "prophet",
    "scipy": "scipy",
    "sentence_transformers": "sentence-transformers",
    "skl2onnx": "skl2onnx",
    "sklearn": "scikit-learn",
    "skorch": "skorch",
    "spacy": "spacy",
    "statsmodels": "statsmodels",
    "tensorflow": "tensorflow",
    "torch": "torch",
    "transformers": "transformers",
    "xgboost": "xgboost",
}
"""Packages by the module that a pickle names. What is not here may be the user's own code, which no index has."""

_TOLD: Final = "|".join((*sorted(PACKAGES), "joblib")).encode()
_NAME: Final = rb"[A-Za-z_][\w.]{0,99}+"
_MODULE: Final = rb"(?:" + _TOLD + rb")(?:\.[\w.]{0,99}+)?"
"""Only the modules that say something are looked for, and names are short: a long text in a pickle costs no more."""

_STACK_GLOBAL: Final = re.compile(
    rb"\x8c(.)(" + _MODULE + rb")\x94?(?:\x8c.[\w.<>]{1,255}\x94?|h.|j.{4})\x93", re.DOTALL
)
_GLOBAL: Final = re.compile(rb"c(" + _MODULE + rb")\n" + _NAME + rb"\n")
_KEY: Final = b"_sklearn_version"
_TEXT_AFTER: Final = re.compile(
    rb"(?:\x94|q.|r.{4}|p\d{1,10}\n)?(?:\x8c(.)|X(.{4})|V([0-9][\w.+!-]{0,63})\n)", re.DOTALL
)


def begin(head: bytes) -> Parser | None:
    """The parser when `head` begins a pickle."""
    if _MARKED.match(head):
        return parse()
    return told(Sniffed(format="pickle-protocol-0")) if _UNMARKED.match(head) else None


def parse(*, compressed: bool = False) -> Parser:
    """Read a pickle of protocol 2 or later; a `compressed` one was written by joblib."""
    search = _Search()
    passed, held, block = 0, b"", b""
    while not search.done(passed):
        block = yield _WINDOW
        if not passed:
            search.begin(block)
        search.look(held + block, within=passed < _IMPORTS_WITHIN)
        passed += len(block)
        held = (held + block)[-_OVERLAP:]
        if len(block) < _WINDOW:
            break
    # What torch wrote has more behind its pickles; to see the end of a compressed one costs much.
    last = block if compressed or len(block) < _WINDOW else (yield Rest(1)) or block
    return search.found(compressed=compressed, ended=compressed or last.endswith(_STOP))


def imports(data: bytes) -> set[str]:
    """The modules of known packages, and of joblib, that pickled instructions in `data` name; linear in its size."""
    named = {match[2] for match in _STACK_GLOBAL.finditer(data) if match[1][0] == len(match[2])}
    return {module.decode() for module in (*named, *_GLOBAL.findall(data))}


def needed(modules: set[str], versions: Mapping[str, str], *, protocol: int = 0) -> tuple[str, ...]:
    """The requirements of what imports `modules`; `versions` are of packages that say by which they were pickled."""
    packages = {PACKAGES[top] for module in modules if (top := module.partition(".")[0]) in PACKAGES}
    found = dict.fromkeys(packages, "")
    found.update((name, "".join(same_minor("", version))) for name, version in versions.items())
    if any(module.startswith("numpy._core") for module in modules):
        found["numpy"] = ">=2"
    if protocol == _SINCE_PYTHON_3_8:
        found["python"] = ">=3.8"
    return tuple(sorted(name + specifier for name, specifier in found.items()))


def sklearn_version(data: bytes) -> str | None:
    """The version that an estimator in `data` says it was pickled by."""
    at = data.find(_KEY)
    for _ in range(_MOST_KEYS):
        if at < 0:
            break
        at += len(_KEY)
        if (version := _text_at(data, at)) is not None and same_minor("", version):
            return version
        at = data.find(_KEY, at)
    return None


def _text_at(data: bytes, at: int) -> str | None:
    match = _TEXT_AFTER.match(data, at)
    if match is None:
        return None
    short, long, line = match.groups()
    size = int.from_bytes(short or long or b"", "little")
    text: bytes = line or data[match.end() : match.end() + size]
    whole = line is not None or len(text) == size
    return text.decode() if whole and text.isascii() and len(text) < _LONGEST_VERSION else None


class _Search:
    """What was found so far."""

    def __init__(self) -> None:
        self._modules: set[str] = set()
        self._versions: dict[str, str] = {}
        self._protocol = 0
        self._torch = False

    def begin(self, block: bytes) -> None:
        if _MARKED.match(block):
            self._protocol = block[1]
        self._torch = block.startswith(_TORCH, 2)

    def look(self, data: bytes, *, within: bool) -> None:
        if within:
            self._modules |= imports(data)
        for name, find in _SAID_BY.items():
            if name not in self._versions and self._imports(name) and (version := find(data)) is not None:
                self._versions[name] = version

    def done(self, passed: int) -> bool:
        """Whether nothing more can be found."""
        missing = (name for name in _SAID_BY if name not in self._versions and self._imports(name))
        return passed >= _IMPORTS_WITHIN and not any(missing)

    def found(self, *, compressed: bool, ended: bool) -> Sniffed:
        joblib = compressed or any(module.partition(".")[0] == "joblib" for module in self._modules)
        form = "torch" if self._torch else "joblib" if joblib else "pickle"
        damaged = None if ended or self._torch else "it does not end as a pickle does: part of it may be missing"
        requires = needed(self._modules, self._versions, protocol=self._protocol)
        return Sniffed(format=form, requires=requires, damaged=damaged)

    def _imports(self, package: str) -> bool:
        return any(PACKAGES.get(module.partition(".")[0]) == package for module in self._modules)


_SAID_BY: Final[Mapping[str, Callable[[bytes], str | None]]] = {
    "scikit-learn": sklearn_version,
    "xgboost": last_version,
}
"""How packages say by which version they were pickled."""
