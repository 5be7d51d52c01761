"""A configuration file as text: only a regular file, of a sane size, in UTF-8, without control characters."""

import re
import stat
from pathlib import Path
from typing import Final

from mlops_deploy.config.issues import Issue, Issues, Mark, Source
from mlops_deploy.errors import ConfigError

MAX_BYTES: Final = 256 << 10

# What YAML forbids, and the three rare line ends that YAML folds but no editor counts as lines.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def read(path: Path, issues: Issues, *, limit: int = MAX_BYTES) -> Source | None:
    """The text of `path`; None when an issue says why it is not text. A missing file raises `ConfigError`."""
    raw = _bytes(path, limit)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _not_utf8(path, raw, error.start, issues)
        return None
    source = Source(str(path), text)
    return None if _forbidden(source, issues) else source


def is_there(path: Path) -> bool:
    """Whether `path` exists; false too for a name that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _bytes(path: Path, limit: int) -> bytes:
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            hint = f"did you mean `{path / 'mlops.yml'}`?" if path.is_dir() else "name a file"
            raise ConfigError(f"`{path}` is not a regular file", hint=hint)
        if state.st_size > limit:
            raise ConfigError(f"`{path}` is larger than {limit >> 10} KiB", hint="this is not a configuration file")
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"`{path}` does not exist", hint=_instead(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"`{path}` cannot be read: {reason.lower()}", hint="check its name and permissions"
        ) from error


def _instead(path: Path) -> str:
    for suffix in (".yml", ".yaml", ".json"):
        if (other := path.with_suffix(suffix)).is_file():
            return f"there is `{other}`: give it with `-f {other}`"
    return "name one with `-f FILE`, or start with `mlops-deploy docs --example > mlops.yml`"


def _not_utf8(path: Path, raw: bytes, start: int, issues: Issues) -> None:
    source = Source(str(path), raw.decode("utf-8", errors="replace"))
    before = raw[:start].decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    mark = Mark(source, before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)
    hint = f"byte 0x{raw[start]:02x}; save the file as UTF-8"
    issues.add(Issue(mark=mark, path=(), message="the file is not UTF-8", hint=hint))


def _forbidden(source: Source, issues: Issues) -> bool:
    found = _FORBIDDEN.search(source.text)
    if found is None:
        return False
    char = found.group()
    for number, line in enumerate(source.lines, 1):
        if (column := line.find(char)) >= 0:
            hint = f'write it as an escape in double quotes: "\\u{ord(char):04x}"'
            mark = Mark(source, number, column + 1)
            message = f"the character U+{ord(char):04X} cannot stand in a configuration file"
            issues.add(Issue(mark=mark, path=(), message=message, hint=hint))
            break
    return True
