"""A value that must not be seen."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """Prints as `[redacted]` everywhere; only `reveal()` gives the value, to the one call that needs it."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __str__(self) -> str:
        return "[redacted]"

    def __repr__(self) -> str:
        return "Secret([redacted])"
