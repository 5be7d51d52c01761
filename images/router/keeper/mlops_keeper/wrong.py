"""What a request can end with besides its answer."""


class WrongError(Exception):
    """The request cannot be done; `kind` is `input`, `state`, `config` or `silent`. Nothing was changed."""

    def __init__(self, kind: str, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.lines = lines


class RefusedError(Exception):
    """Not done, because of what somebody else did, or (`fenced`) for want of a live lease."""

    def __init__(self, reason: str, *, fenced: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fenced = fenced


class OverdueError(Exception):
    """The time for something is over."""
