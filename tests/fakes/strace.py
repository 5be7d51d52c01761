"""What strace wrote, a line for each call: one that another thread interrupted is put together again."""

import re
from collections.abc import Iterator
from pathlib import Path

_INTERRUPTED = "<unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")


def calls_of(trace: Path) -> Iterator[str]:
    """Each call of a trace of `strace -f` without the process it is of, in the order of their ends."""
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        process, text = line.split(maxsplit=1)
        if text.endswith(_INTERRUPTED):
            begun[process] = text.removesuffix(_INTERRUPTED).rstrip()
        else:
            resumed = _RESUMED.fullmatch(text)
            yield begun.pop(process) + resumed[1] if resumed else text
