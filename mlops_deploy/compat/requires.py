"""What a whole model needs: what its user declares, and what its files say."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlops_deploy.compat.documents import MLFLOW, PINNED
from mlops_deploy.spec.requires import Sniffed


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The formats of a model's files, and what it needs of its server, one requirement per package."""

    formats: tuple[str, ...]
    requires: tuple[str, ...]


def merged(declared: Sequence[str], sniffed: Mapping[str, Sniffed]) -> Found:
    """What is declared, as it stands, then what the files (by their paths) say of other packages, sorted."""
    files = [file for path, file in sniffed.items() if _counts(path, file, sniffed)]
    formats = {file.format for file in files if file.format not in {None, PINNED}}
    names = {package(text) for text in declared}
    others = _together(text for file in files for text in file.requires)
    return Found(
        formats=tuple(sorted(form for form in formats if form)),
        requires=(*declared, *(text for name, text in sorted(others.items()) if name not in names)),
    )


def package(text: str) -> str:
    """The normalised name of the package that a requirement is about."""
    try:
        return canonicalize_name(Requirement(text).name)
    except InvalidRequirement:
        return text


def _counts(path: str, file: Sniffed, sniffed: Mapping[str, Sniffed]) -> bool:
    if file.format != PINNED:
        return True
    folder = path.rpartition("/")[0]
    beside = sniffed.get(f"{folder}/MLmodel" if folder else "MLmodel")
    return beside is not None and beside.format == MLFLOW


def _together(texts: Iterable[str]) -> dict[str, str]:
    """One requirement per package, which all of them make together."""
    specifiers: dict[str, set[str]] = {}
    for text in texts:
        wanted = Requirement(text)
        specifiers.setdefault(canonicalize_name(wanted.name), set()).update(str(one) for one in wanted.specifier)
    return {name: name + ",".join(sorted(said)) for name, said in specifiers.items()}
