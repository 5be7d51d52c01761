"""How much a version that wrote a file binds the one that reads it."""

from packaging.version import InvalidVersion, Version


def at_least(package: str, text: str) -> tuple[str, ...]:
    """A format that later versions go on reading; nothing for what is no version."""
    try:
        return (f"{package}>={Version(text).public}",)
    except InvalidVersion:
        return ()


def same_minor(package: str, text: str) -> tuple[str, ...]:
    """A format that promises nothing to other versions, as a pickle of objects; nothing for what is no version."""
    try:
        version = Version(text)
    except InvalidVersion:
        return ()
    if len(version.release) < len(("major", "minor", "patch")):
        return (f"{package}~={version.major}.{version.minor}.0",)
    return (f"{package}~={version.public}",)
