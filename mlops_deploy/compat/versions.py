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
    epoch = f"{version.epoch}!" if version.epoch else ""
    given = ".".join(map(str, version.release))
    patched = given if len(version.release) > len(("major", "minor")) else f"{version.major}.{version.minor}.0"
    return (f"{package}~={epoch}{patched}{version.public[len(epoch + given) :]}",)
