"""What a server provides: as its image's label says, or else the table of its preset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mlops_deploy.spec.deploy import JsonValue

_ABOUT: Final = {"python", "platform", "cuda", "hook"}

_ALIKE: Final = (
    ("onnxruntime", "onnxruntime-gpu"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel", "tensorflow-macos"),
    ("xgboost", "xgboost-cpu"),
)
"""Distributions that bring the same modules, for other machines, and have the same versions."""

_RUNTIMES: Final = _ALIKE[0]

ONNX: Final = {
    (1, 20): (10, 21, 4),
    (1, 19): (10, 21, 4),
    (1, 18): (10, 21, 4),
    (1, 17): (9, 20, 4),
    (1, 16): (9, 19, 3),
    (1, 15): (8, 19, 3),
    (1, 14): (8, 18, 3),
    (1, 13): (8, 17, 3),
    (1, 12): (8, 17, 3),
    (1, 11): (8, 16, 2),
    (1, 10): (8, 15, 2),
    (1, 9): (8, 15, 2),
    (1, 8): (7, 14, 2),
    (1, 7): (7, 13, 2),
    (1, 6): (7, 13, 2),
    (1, 5): (7, 12, 2),
}
"""IR, operators and ML operators that a version of ONNX Runtime knows, by onnxruntime.ai/docs/reference/compatibility.

A later version reads all that an earlier one does.
"""

_NAMES: Final = ("onnx-ir", "onnx-opset", "onnx-ml-opset")
PSEUDO: Final = {"python", *_NAMES}
"""What a requirement may name that is no package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A version that a server has; with `least` it may be a later one."""

    version: str
    least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Provides:
    """One server. Of a `complete` one all packages are known, so that what is not among them is missing."""

    packages: Mapping[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    complete: bool = False

    @classmethod
    def of(cls, said: Mapping[str, JsonValue], formats: Sequence[str] = ()) -> Self:
        """From a label's or a preset's table, as somebody else may have written it; `formats` where it names none."""
        listed = said.get("packages")
        packages = _texts({key: value for key, value in said.items() if key not in _ABOUT - {"python"}})
        named = said.get("formats")
        own = [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
        return cls(
            packages={**packages, **(_texts(listed) if isinstance(listed, dict) else {})},
            formats=tuple(own or formats),
            complete=isinstance(listed, dict),
        )

    def find(self, name: str) -> Known | None:
        """What it has of `name`, normalised; None where that is not known, or it has none."""
        if name not in self.packages and name in _NAMES:
            return self._onnx(_NAMES.index(name))
        names = (name, *(other for group in _ALIKE if name in group for other in group))
        return next((Known(version=self.packages[one]) for one in names if one in self.packages), None)

    def environment(self) -> dict[str, str] | None:
        """What a requirement's marker may ask of it, since servers run on Linux; None where its Python is not known."""
        python = self.packages.get("python")
        try:
            release = None if python is None else Version(python).release
        except InvalidVersion:
            return None
        if python is None or release is None:
            return None
        return {
            "python_version": ".".join(map(str, release[:2])),
            "python_full_version": python,
            "implementation_version": python,
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "extra": "",
        }

    def _onnx(self, place: int) -> Known | None:
        found = next((self.packages[one] for one in _RUNTIMES if one in self.packages), None)
        try:
            release = None if found is None else Version(found).release[:2]
        except InvalidVersion:
            return None
        rows = [row for row in ONNX if release is not None and row <= release]
        return Known(version=str(ONNX[max(rows)][place]), least=max(rows) != release) if rows else None


def _texts(said: Mapping[str, JsonValue]) -> dict[str, str]:
    return {str(canonicalize_name(name)): value for name, value in said.items() if isinstance(value, str)}
