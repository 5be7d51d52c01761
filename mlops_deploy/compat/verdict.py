"""What a model needs, held against what a server provides: a verdict for each, and a way out of a failure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mlops_deploy.compat.provides import PSEUDO, Known, Provides

Level = Literal["ok", "warn", "unknown", "fail"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "warn", "unknown", "fail")
"""From good to bad."""

_PATCH: Final = 3
"""Parts of a version that names a patch: only what was read from a file, or written as exactly, is so precise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of one requirement; `fix` names a way out of a failure."""

    level: Level
    about: str
    said: str
    fix: str | None = None


def compare(formats: Sequence[str], requires: Sequence[str], provides: Provides | None) -> tuple[Verdict, ...]:
    """A verdict for the formats together and for each requirement, in their order."""
    said = provides or Provides()
    return (*_formats(formats, said), *(_requirement(text, said) for text in requires))


def overall(verdicts: Sequence[Verdict]) -> Level:
    """The worst of them; a model that needs nothing is fine anywhere."""
    return max((verdict.level for verdict in verdicts), key=LEVELS.index, default="ok")


def _formats(formats: Sequence[str], provides: Provides) -> Iterator[Verdict]:
    """A model may be there in several formats, and stand beside descriptions in others: one that is read will do."""
    if not formats:
        return
    about = f"format {', '.join(formats)}"
    if not provides.formats:
        yield Verdict(level="unknown", about=about, said="the server does not say which formats it reads")
    elif set(formats) & set(provides.formats):
        yield Verdict(level="ok", about=about, said="the server reads it")
    else:
        reads = ", ".join(provides.formats)
        fix = f"write the model as {_one_of(provides.formats)}, or use a server that reads {_one_of(formats)}"
        yield Verdict(level="fail", about=about, said=f"the server reads {reads}", fix=fix)


def _requirement(text: str, provides: Provides) -> Verdict:
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return Verdict(level="unknown", about=text, said="this is no requirement that can be compared")
    if wanted.marker is not None and (apart := _marked(text, wanted.marker, provides)) is not None:
        return apart
    name = canonicalize_name(wanted.name)
    known = provides.find(name)
    if known is not None:
        return _version(text, name, wanted.specifier, known)
    if provides.complete and name not in PSEUDO:
        return Verdict(
            level="fail", about=text, said=f"the server has no {name}", fix=_fix(name, wanted.specifier, None)
        )
    return Verdict(level="unknown", about=text, said="the server does not say what it has of it")


def _marked(text: str, marker: Marker, provides: Provides) -> Verdict | None:
    """The verdict on a requirement whose marker says that it is not made of this server, or may not be."""
    environment = provides.environment()
    try:
        applies = None if environment is None else marker.evaluate({**environment})
    except (UndefinedComparison, UndefinedEnvironmentName):
        applies = None
    match applies:
        case True:
            return None
        case False:
            return Verdict(level="ok", about=text, said="it is not needed there")
        case _:
            return Verdict(level="unknown", about=text, said="whether it is needed there is not known")


def _version(text: str, name: str, specifier: SpecifierSet, known: Known) -> Verdict:
    has = f"the server has {name} {known.version}"
    try:
        fits = specifier.contains(Version(known.version), prereleases=True)
    except InvalidVersion:
        return Verdict(level="unknown", about=text, said=f"{has}, which is no version")
    if not fits and known.least:
        return Verdict(level="unknown", about=text, said=f"{has} or later")
    if not fits:
        return Verdict(level="fail", about=text, said=has, fix=_fix(name, specifier, known))
    made = _made_with(specifier)
    if name not in PSEUDO and made is not None and made.release[:2] != Version(known.version).release[:2]:
        return Verdict(level="warn", about=text, said=f"{has}, the model was made with {made}")
    return Verdict(level="ok", about=text, said=has)


def _made_with(specifier: SpecifierSet) -> Version | None:
    """The version that wrote the model, as far as the requirement names one."""
    for one in specifier:
        if one.operator in {"~=", ">=", "=="} and not one.version.endswith("*"):
            version = Version(one.version)
            if len(version.release) >= _PATCH:
                return version
    return None


def _fix(name: str, specifier: SpecifierSet, known: Known | None) -> str:
    if name == "python":
        return f"use a server with Python {specifier}: `mlops-deploy build-server --base IMAGE` takes another one"
    if name in PSEUDO:
        later = "use a server with a later ONNX Runtime"
        return later if known is None else f"{later}, or write the model again with {name} {known.version} or earlier"
    if _several(specifier):
        return f"make all files of the model with one version of {name}, or say at `model.requires` which one counts"
    server = f"use a server with {name}{specifier}: `mlops-deploy build-server --constraints FILE`"
    return server if known is None else f"{server}, or make the model again with {name} {known.version}"


def _several(specifier: SpecifierSet) -> bool:
    """Whether files of one model were made with versions that no server can have at once."""
    return len({Version(one.version).release[:2] for one in specifier if one.operator == "~="}) > 1


def _one_of(words: Sequence[str]) -> str:
    return " or ".join(words)
