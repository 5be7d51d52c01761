"""What this process has open, where a test says that it lets go of something."""

from contextlib import suppress
from pathlib import Path


def opened(folder: Path) -> list[str]:
    """The files below `folder`, each as often as it is open. What other tests have left open elsewhere may end."""
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # one that is no longer open
            found.append(str(handle.readlink()))
    return sorted(path for path in found if path.startswith(f"{folder.resolve()}/"))
