"""What a server provides: as its image's label says, or else the table of its preset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mlops_deploy.spec.deploy import JsonValue

_ABOUT: Final = {"python", "platform", "cuda", "hook"}
_RUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")

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
        version = self.packages.get(name)
        if version is None and name in _NAMES:
            return self._onnx(_NAMES.index(name))
        return None if version is None else Known(version=version)

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
