"""What a bootstrap task does in a job, without an engine: run a carrier's own deploy.sh with its own shell."""

import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from mlops_deploy.api.machine import this_platform
from mlops_deploy.api.turn import taking_turns
from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci.blobs import LayoutBlobs
from mlops_deploy.oci.partial import reporting
from mlops_deploy.oci.types import Descriptor
from mlops_deploy.oci.view import view_images
from mlops_deploy.ports import Completed, Runner, Story
from mlops_deploy.store.layout import LayoutStore, Stored

_GUARD: Final = '. "$CARRIER_ROOT/deploy.sh"; [ "$DEPLOYED" = "$MODEL_ID" ]'
_TREE: Final = ("bin", "carrier", "deploy.sh", "model", "models")
_LEAST: Final = 600.0
_SLOWEST: Final = 10e6
_LISTED: Final = "`mlops-deploy verify` lists all that is wrong with the carrier"

DAMAGED: Final = 65
"""deploy.sh's exit code for a carrier that is not what it says."""


class ScriptFailedError(DeployError):
    """A carrier's deploy.sh ended with an exit code of its own, `code`; what it said is in `detail`."""

    def __init__(self, code: int, said: Sequence[str]) -> None:
        super().__init__(f"the carrier's deploy.sh ended with exit code {code}", detail=said)
        self.code = code


def place_model(store: LayoutStore, stored: Stored, folder: Path, runner: Runner, story: Story) -> Path:
    """Copy the model of a carrier to `folder/models/v/<content id>`, unless it is there, and return that path.

    The carrier's shell, script and lists are unpacked for it, its model only when the model is not there; they are
    gone when this returns. Raises `ContentMismatchError` for a damaged carrier, `ScriptFailedError` for what else
    deploy.sh refuses.
    """
    place = _Place(store=store, stored=stored, layers=_layers(store, stored), folder=folder.absolute(), runner=runner)
    with (
        reporting(f"`{folder}`"),
        taking_turns(folder / ".lock", story, f"copying a model to `{place.volume}`", deadline=place.deadline),
    ):
        shutil.rmtree(place.root, ignore_errors=True)
        try:
            for line in place.deploy():
                story.say(line)
        finally:
            shutil.rmtree(place.root, ignore_errors=True)
    return place.model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """One carrier, and the folder in which it is unpacked and its model kept."""

    store: LayoutStore
    stored: Stored
    layers: tuple[Descriptor, ...]
    folder: Path
    runner: Runner

    @property
    def root(self) -> Path:
        return self.folder / "carrier"

    @property
    def volume(self) -> Path:
        return self.folder / "models"

    @property
    def model(self) -> Path:
        return self.volume / "v" / self.stored.content_id.hex

    @property
    def deadline(self) -> float:
        return _LEAST + sum(layer.size for layer in self.layers) / _SLOWEST

    def deploy(self) -> tuple[str, ...]:
        """Run deploy.sh and return what it said."""
        shell, *model, metadata = self.layers
        self._unpack(shell, metadata)
        done = self._run_script() if self.model.is_dir() else None
        if done is None or done.code != 0:
            self._unpack(*model)
            done = self._run_script()
        said = tuple((done.out + done.err).splitlines())
        if done.code == DAMAGED:
            hint = f"`mlops-deploy verify {self.stored.ref}` lists what is wrong"
            raise ContentMismatchError(f"the carrier `{self.stored.ref}` is damaged", detail=said, hint=hint)
        if done.code != 0:
            raise ScriptFailedError(done.code, said)
        return said

    def _run_script(self) -> Completed:
        env = {
            "PATH": str(self.root / "bin"),
            "MODEL_ID": self.stored.content_id.hex,
            "MODEL_VOLUME": str(self.volume),
            "CARRIER_ROOT": str(self.root),
        }
        shell = (str(self.root / "bin" / "busybox"), "sh", "-c", _GUARD)
        return self.runner.run(shell, env=env, cwd=self.root, timeout=self.deadline)

    def _unpack(self, *layers: Descriptor) -> None:
        for layer in layers:
            unpack(self.store.blob_path(layer.digest), self.root)


def _layers(store: LayoutStore, stored: Stored) -> tuple[Descriptor, ...]:
    """The layers for this machine; those that are run from are verified here, the model's files by deploy.sh."""
    here = this_platform()
    images = view_images(LayoutBlobs(store.path), stored.digest)
    layers = next((image.layers for image in images if image.platform == here), None)
    if layers is None:
        there = ", ".join(str(image.platform) for image in images)
        raise UnusableInputError(
            f"the carrier `{stored.ref}` has a shell for {there} only, and this is {here}",
            hint="build it with `mlops-deploy build-model --shell PATH` and a static busybox of this platform",
        )
    for layer in (layers[0], layers[-1]):
        _verify(store.blob_path(layer.digest), layer)
    return layers


def _verify(path: Path, layer: Descriptor) -> None:
    try:
        with path.open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise ContentMismatchError(f"the layer `{path}` is missing", hint=_LISTED) from error
    if found != layer.digest.hex:
        raise ContentMismatchError(f"the layer `{path}` is damaged: its sha256 is {found}", hint=_LISTED)


def unpack(layer: Path, root: Path) -> None:
    """Write the folders, plain files and applet links of a carrier's layer below `root`, and refuse anything else."""
    try:
        with layer.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                _write(file, member, _inside(root, member.name))
    except (tarfile.TarError, FileNotFoundError) as error:
        raise ContentMismatchError(f"the layer `{layer}` cannot be read: {error}", hint=_LISTED) from error


def _write(layer: BinaryIO, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        path.mkdir(exist_ok=True)
    elif member.issym() and member.linkname == "busybox" and member.name.startswith("bin/"):
        path.symlink_to("busybox")
    elif member.isreg() and not member.issparse():
        with path.open("xb") as file:
            _copy(layer, file, member.offset_data, member.size)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
    else:
        raise ContentMismatchError(
            f"`{member.name}` in a layer is neither a folder, a plain file nor an applet's link", hint=_LISTED
        )


def _copy(layer: BinaryIO, file: BinaryIO, start: int, size: int) -> None:
    # By the kernel: two to five times as fast as through a buffer of ours.
    done = 0
    while done < size:
        count = os.sendfile(file.fileno(), layer.fileno(), start + done, size - done)
        if count == 0:
            raise ContentMismatchError(f"the layer `{layer.name}` ends too early", hint=_LISTED)
        done += count


def _inside(root: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] not in _TREE or ".." in parts:
        raise ContentMismatchError(f"`{name}` has no place in a carrier", hint=_LISTED)
    return root.joinpath(*parts)
