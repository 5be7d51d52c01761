"""Which shell goes into a carrier: one that is named, else the pinned one, else a static busybox on the machine.

One that is named, or pinned, may be in a busybox image of a registry: for each platform there, it is taken out.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from mlops_deploy.api.registry_images import FindRegistries, Remote, look_up, registry_ref
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.oci.foreign import Listed, list_images, read_image
from mlops_deploy.oci.partial import reporting
from mlops_deploy.oci.shell import Shell, read_shell, shell_of
from mlops_deploy.oci.shell_image import find_busybox
from mlops_deploy.oci.types import Platform
from mlops_deploy.ports import Story
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.files import replace_file
from mlops_deploy.store.lockfile import pinned_images, pinned_shells

PLATFORMS: Final = (Platform("linux", "amd64"), Platform("linux", "arm64"))
"""What a carrier can run on."""

ON_THIS_MACHINE = (Path("/bin/busybox"), Path("/usr/bin/busybox"), Path("/usr/local/bin/busybox"))


def applets() -> tuple[str, ...]:
    """The busybox applets that a carrier links: those that deploy.sh and a modelcar call."""
    return tuple((IMAGES / "carrier" / "applets").read_text(encoding="utf-8").split())


def choose_shells(
    named: Sequence[str], lock: Path | None, story: Story, registries: FindRegistries, kept: Path | None = None
) -> tuple[Shell, ...]:
    """One shell per platform; what was taken out of images is kept in the folder `kept`, for the next build.

    Raises `UnusableInputError` when nothing is found, or when what is found is not what the lock pins.
    """
    if not named:
        return _from_image(lock, story, registries, kept) or (_from_machine(lock, story),)
    shells = tuple(shell for text in named for shell in _named(text, story, registries))
    if len({shell.platform for shell in shells}) < len(shells):
        raise UnusableInputError("two shells for the same platform", hint="give `--shell` once per platform")
    if lock is not None:
        _tell_lost_pins(shells, lock, story)
    _keep(shells, kept)
    return shells


def _named(text: str, story: Story, registries: FindRegistries) -> tuple[Shell, ...]:
    ref = None if Path(text).exists() else registry_ref(text)
    if ref is None:
        try:
            return (read_shell(Path(text)),)
        except UnusableInputError as error:
            error.hint = (
                error.hint or "an image begins with its registry, such as `docker.io/library/busybox:1.37-musl`"
            )
            raise
    shells = shells_of_image(look_up(ref, registries()))
    for shell in shells:
        story.say(f"shell: {shell.source}, {shell.digest} ({shell.platform})")
    return shells


def _tell_lost_pins(shells: Sequence[Shell], lock: Path, story: Story) -> None:
    """Warn of what the lock pins and the shells that are named do not have: it is written anew for these."""
    with suppress(UnusableInputError):
        have = {shell.platform for shell in shells}
        lost = [f"a shell for {platform}" for platform in pinned_shells(lock) if platform not in have]
        if any(shell.image is None for shell in shells):
            lost += [f"the image `{image}`" for image in pinned_images(lock)]
        if lost:
            story.warn(
                f"`{lock}` pinned {' and '.join(lost)}: this carrier has none of it, nor has the lock from now on"
            )


def _from_image(lock: Path | None, story: Story, registries: FindRegistries, kept: Path | None) -> tuple[Shell, ...]:
    """The shells that the lock pins in images, all of them; none where it does not, or nobody answers."""
    images = pinned_images(lock) if lock is not None else ()
    if lock is None or not images:
        return ()
    pinned = pinned_shells(lock)
    shells = _kept(pinned, images, kept)
    if not shells:
        try:
            every = (shells_of_image(look_up(image, registries())) for image in images)
            shells = tuple(shell for some in every for shell in some if shell.platform in pinned)
        except UnreachableError as error:
            story.warn(f"{error.message}: a static busybox of this machine must do")
            return ()
        _keep(shells, kept)
    if {shell.platform: shell.digest for shell in shells} != pinned:
        raise UnusableInputError(
            f"`{images[0]}` does not have the shells that `{lock}` pins",
            hint=f"`--shell {images[0]}` accepts what it has: the carrier's digest changes, its content id does not",
        )
    return shells


def shells_of_image(remote: Remote) -> tuple[Shell, ...]:
    """The static busybox of a busybox image, for each platform that a carrier can have and the image has."""
    blobs = remote.blobs
    listed = [one for one in list_images(blobs, remote.digest) if one.platform in {None, *PLATFORMS}]
    images = {image.platform: image for image in (read_image(blobs, one) for one in _first_of_each(listed))}
    found = tuple(
        shell_of(find_busybox(blobs, images[platform]), str(remote.ref), remote.ref)
        for platform in PLATFORMS
        if platform in images
    )
    if not found:
        raise UnusableInputError(
            f"`{remote.ref}` has no image for linux/amd64 or linux/arm64", hint="name a busybox image that has one"
        )
    if mixed := next((shell for shell in found if shell.platform not in images), None):
        raise UnusableInputError(
            f"`{remote.ref}` has a shell for {mixed.platform} in an image for another platform",
            hint="name another busybox image, or static binaries: `--shell PATH`",
        )
    return found


def _first_of_each(listed: Sequence[Listed]) -> Iterator[Listed]:
    """Variants of an architecture follow the one that runs everywhere."""
    seen: set[Platform] = set()
    for one in listed:
        if one.platform not in seen:
            yield one
        if one.platform is not None:
            seen.add(one.platform)


def _kept(pinned: Mapping[Platform, Digest], images: Sequence[ImageRef], folder: Path | None) -> tuple[Shell, ...]:
    """The pinned shells as an earlier build left them, all or none."""
    if folder is None or len(images) != 1:
        return ()
    found: list[Shell] = []
    for digest in pinned.values():
        with suppress(UnusableInputError):
            found.append(replace(read_shell(folder / digest.hex), source=str(images[0]), image=images[0]))
    return tuple(found) if {shell.platform: shell.digest for shell in found} == pinned else ()


def _keep(shells: Sequence[Shell], folder: Path | None) -> None:
    for shell in shells:
        if folder is None or shell.image is None or (folder / shell.digest.hex).exists():
            continue
        with reporting(f"`{folder}`"):
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / shell.digest.hex, shell.binary)


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
    images = pinned_images(lock) if lock is not None else ()
    return replace(match, image=images[0]) if images else match


def _static_ones() -> Iterator[Shell]:
    seen = set()
    for path in ON_THIS_MACHINE:
        with suppress(UnusableInputError):
            shell = read_shell(path)
            if shell.digest not in seen:
                seen.add(shell.digest)
                yield shell
