"""A key that is on or off."""

from dataclasses import dataclass

from mlops_deploy.config.fields import At, Schema
from mlops_deploy.config.marks import Node, Scalar


@dataclass(frozen=True, slots=True)
class Switch:
    """`true` or `false`; other spellings mean one thing to one YAML reader and another to the next."""

    @property
    def expected(self) -> str:
        """In words."""
        return "`true` or `false`"

    def decode(self, node: Node, at: At) -> bool | None:
        """The truth value."""
        if isinstance(node, Scalar) and node.kind == "truth":
            return node.text == "true"
        at.expected(node, self.expected)
        return None

    def schema(self) -> Schema:
        """A truth value."""
        return {"type": "boolean"}
