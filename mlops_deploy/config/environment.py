"""Environment variables as a kind of value: what can be passed to a program, exactly as it is written."""

import re
from dataclasses import dataclass
from typing import Final

from mlops_deploy.config.fields import At, Schema, shorten
from mlops_deploy.config.kinds import HALF, encodes
from mlops_deploy.config.marks import Items, Mapping, Node, Scalar

_ENTRY_BYTES: Final = 128 << 10
_ELSEWHERE: Final = "put it in a file of the model"


@dataclass(frozen=True, slots=True)
class Environment:
    """Environment variables; values are taken exactly as they are written: `on` stays `on` and `1.10` stays `1.10`."""

    reserved: tuple[str, ...] = ()
    expected: str = "a map of names and values"

    NAME = r"[A-Za-z_][A-Za-z0-9_]*"

    def decode(self, node: Node, at: At) -> dict[str, str] | None:
        """Names and texts."""
        if not isinstance(node, Mapping):
            at.expected(node, self.expected, "write `NAME: value`" if isinstance(node, Items) else None)
            return None
        found = {key.text: self._value(key, value, at.child(key.text)) for key, value in node.entries}
        return {name: value for name, value in found.items() if value is not None}

    def schema(self) -> Schema:
        """An object of strings, numbers and truth values."""
        names: Schema = {"pattern": f"^{self.NAME}$", "not": {"enum": list(self.reserved)}}
        return {
            "type": "object",
            "propertyNames": names,
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }

    def _value(self, key: Scalar, value: Node, at: At) -> str | None:
        if not re.fullmatch(self.NAME, key.text):
            at.wrong(
                key.mark, f"`{shorten(key.text)}` cannot name a variable", "use letters, digits and `_`, no digit first"
            )
        elif key.text in self.reserved:
            at.wrong(key.mark, f"`{key.text}` is set by the job itself", "remove it, or choose another name")
        elif not isinstance(value, Scalar):
            at.expected(value, "one value")
        elif value.kind == "empty":
            at.expected(value, "one value", 'write "" for an empty one')
        elif (size := len(key.text) + len(value.text.encode(errors="replace")) + 2) > _ENTRY_BYTES:
            limit = f"Linux takes {_ENTRY_BYTES >> 10} KiB per variable with its name"
            at.expected(value, f"at most {_ENTRY_BYTES >> 10} KiB", f"it has {size:,} bytes, and {limit}: {_ELSEWHERE}")
        elif problem := _not_passable(value.text):
            at.expected(value, "one value", problem)
        else:
            return value.text
        return None


def _not_passable(value: str) -> str | None:
    if "\0" in value:
        return "a NUL cannot be passed to a program"
    if not encodes(value):
        return HALF
    return None
