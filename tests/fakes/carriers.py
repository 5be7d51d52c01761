"""What tests of the carrier builder are made with: a shell that no busybox is needed for, a story, a counting place."""

import struct
from pathlib import Path

from mlops_deploy.api.build_model import ModelBuild
from mlops_deploy.oci.destination import Destination
from mlops_deploy.oci.metadata import ModelCard
from mlops_deploy.oci.shell import read_shell

AMD64, ARM64 = 0x3E, 0xB7


def elf(machine=AMD64, *, interpreter=False, wide=2, little=1, text=b"BusyBox v1.37.0"):
    """The smallest thing that looks like a busybox: an ELF header, perhaps one program header, and the version."""
    size, count = 56, 1
    head = struct.pack(
        "<4sBB10xHHIQQQIHHHHHH", b"\x7fELF", wide, little, 2, machine, 1, 0, 64, 0, 0, 64, size, count, 0, 0, 0
    )
    return head + struct.pack("<I", 3 if interpreter else 1).ljust(size, b"\0") + text


def fake_shell(folder: Path, machine=AMD64):
    path = folder / f"busybox-{machine}"
    path.write_bytes(elf(machine))
    return read_shell(path)


def write_model(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def a_build(path: Path, shell, *, name="digits", tags=(), **card):
    return ModelBuild(path=path, card=ModelCard(name=name, **card), shells=(shell,), tags=tuple(tags))


class Silent:
    """A story that nobody hears, but that can be asked."""

    def __init__(self):
        self.said, self.warned, self.told = [], [], []

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)

    def progress(self, label, done, total):
        self.told.append((label, done, total))


class Keeper(Destination):
    """A destination that keeps every layer in memory."""

    def __init__(self, *, has=False):
        self.layers, self.begun, self.finished, self.aborted = {}, [], [], 0
        self._has, self._data = has, bytearray()

    def sink(self):
        return self

    def has(self, carrier):
        return self._has

    def wants(self, layer):
        return layer.digest not in self.layers

    def begin(self, layer):
        self.begun.append(layer.size)
        self._data = bytearray()

    def write(self, block):
        self._data += block

    def end(self, digest):
        self.layers[digest] = bytes(self._data)

    def finish(self, carrier, names):
        self.finished.append((carrier, tuple(map(str, names))))

    def abort(self):
        self.aborted += 1
