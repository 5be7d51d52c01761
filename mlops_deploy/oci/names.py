"""Names that can travel in a carrier, and how a text of unknown origin is shown to people."""

import re
from typing import Final

# The same rules as deploy.sh: a list of paths has one per line, and busybox's sha256sum escapes nothing.
_BAD_NAME: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\]|^[ -]|[ ]$|^\.\.?$|^\.wh\.|^$")
_LONGEST_NAME: Final = 255
# The kernel takes 4,096 bytes; the rest is for the volume and the stage that deploy.sh copies into.
_LONGEST_PATH: Final = 2048


def name_trouble(path: str) -> str | None:
    """Why the last part of `path` cannot travel; None when it can."""
    name = path.rpartition("/")[2]
    try:
        length, whole = len(name.encode()), len(path.encode())
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    if length > _LONGEST_NAME or whole > _LONGEST_PATH:
        return f"a name has at most {_LONGEST_NAME} bytes, a path {_LONGEST_PATH:,}"
    if _BAD_NAME.search(name):
        return (
            "a name may not have control characters or a backslash, start with `-`, `.wh.` or a blank, end with a blank"
        )
    return None


def printable(text: str) -> str:
    """The text with everything escaped that a terminal might obey."""
    readable = text.encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in readable)


def shown(path: str) -> str:
    """The path in back-ticks, printable whatever is in it."""
    return f"`{printable(path) or '.'}`"
