import os
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.shell import read_shell, shell_layer
from mlops_deploy.oci.tar import Folder, Link, Text
from tests.fakes.carriers import ARM64, elf, fake_shell


def read(tmp_path, data):
    (tmp_path / "sh").write_bytes(data)
    return read_shell(tmp_path / "sh")


def test_the_platform_is_read_from_the_program(tmp_path):
    assert str(read(tmp_path, elf()).platform) == "linux/amd64"
    assert str(read(tmp_path, elf(ARM64)).platform) == "linux/arm64"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (elf(text=b"bash"), "is not a busybox"),
        (b"", "is not a busybox"),
        (b"#!/bin/sh BusyBox v1", "no program for"),
        (elf(machine=40), "no program for"),
        (elf(wide=1), "no program for"),
        (elf(little=2), "no program for"),
        (elf(interpreter=True), "linked dynamically"),
        (b"\x7fELF BusyBox v", "no program for"),
        (elf() + bytes(17 * 2**20), "is not a busybox"),
    ],
)
def test_anything_else_is_refused_with_what_it_is_not(tmp_path, data, why):
    with pytest.raises(UnusableInputError, match=why):
        read(tmp_path, data)


def test_what_is_no_file_is_refused_without_hanging(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(UnusableInputError, match="is not a file"):
            read_shell(path)
    with pytest.raises(UnusableInputError, match="cannot be read: No such file"):
        read_shell(tmp_path / "nothing")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_no_bytes_give_anything_but_a_shell_or_a_refusal(tmp_path, noise):
    data = bytearray(elf())
    data[4 : 4 + len(noise)] = noise
    with suppress(UnusableInputError):
        read(tmp_path, bytes(data) + b"BusyBox v")


def test_the_layer_links_the_applets_and_holds_the_folder_that_a_volume_takes_its_owner_from(tmp_path):
    entries = shell_layer(fake_shell(tmp_path), ["sh", "cat"]).entries
    assert entries == (
        Folder(name="bin"),
        Text(name="bin/busybox", data=elf(), executable=True),
        Link(name="bin/cat", target="busybox"),
        Link(name="bin/sh", target="busybox"),
        Folder(name="model", owner=65532),
    )
