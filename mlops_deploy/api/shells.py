"""Which shell goes into a carrier: the one that is named, else the pinned one, else a static busybox on the machine."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.shell import Shell, read_shell
from mlops_deploy.ports import Story
from mlops_deploy.resources import IMAGES
from mlops_deploy.store.lockfile import pinned_shells

ON_THIS_MACHINE = (Path("/bin/busybox"), Path("/usr/bin/busybox"), Path("/usr/local/bin/busybox"))


def applets() -> tuple[str, ...]:
    """The busybox applets that a carrier links: those that deploy.sh and a modelcar call."""
    return tuple((IMAGES / "carrier" / "applets").read_text(encoding="utf-8").split())


def choose_shells(named: Sequence[Path], lock: Path | None, story: Story) -> tuple[Shell, ...]:
    """One shell per platform.

    Raises `UnusableInputError` when nothing is found, or when what the machine has is not what the lock pins.
    """
    if named:
        shells = tuple(read_shell(path) for path in named)
        if len({shell.platform for shell in shells}) < len(shells):
            raise UnusableInputError("two shells for the same platform", hint="give `--shell` once per platform")
    else:
        shells = (_from_machine(lock, story),)
    return shells


def _from_machine(lock: Path | None, story: Story) -> Shell:
    found = list(_static_ones())
    pinned = pinned_shells(lock) if lock is not None else {}
    if not found:
        raise UnusableInputError(
            "no static busybox on this machine, and a carrier needs one as its shell",
            hint="install `busybox-static`, or name one with `--shell PATH`",
        )
    if not pinned:
        story.say(f"shell: {found[0].source}, {found[0].digest} ({found[0].platform})")
        return found[0]
    match = next((shell for shell in found if pinned == {shell.platform: shell.digest}), None)
    if match is None:
        raise UnusableInputError(
            f"`{found[0].source}` is not the shell that `{lock}` pins",
            detail=[f"  pinned: {digest} ({platform})" for platform, digest in pinned.items()]
            + [f"  found:  {shell.digest} ({shell.platform}), {shell.source}" for shell in found],
            hint=f"`--shell {found[0].source}` accepts it: the carrier's digest changes, its content id does not",
        )
    return match


def _static_ones() -> Iterator[Shell]:
    seen = set()
    for path in ON_THIS_MACHINE:
        with suppress(UnusableInputError):
            shell = read_shell(path)
            if shell.digest not in seen:
                seen.add(shell.digest)
                yield shell
