import pytest

from mlops_deploy.api import shells as shells_module
from mlops_deploy.api.shells import applets, choose_shells
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.store.lockfile import pin_shells
from tests.fakes.carriers import ARM64, Silent, elf, fake_shell


def nobody():
    raise AssertionError("no registry is named here")


def choose(named, lock, story):
    return choose_shells([str(path) for path in named], lock, story, nobody)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose only static busybox is ours."""
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "busybox"
    path.write_bytes(elf())
    monkeypatch.setattr(shells_module, "ON_THIS_MACHINE", (path,))
    return path


def test_the_shell_of_the_machine_is_announced_with_its_digest(machine):
    story = Silent()
    (shell,) = choose((), None, story)
    assert shell.source == str(machine)
    assert str(shell.digest) in story.said[0]


def test_the_named_ones_come_first_and_are_not_announced(machine, tmp_path):
    named, story = fake_shell(tmp_path, ARM64), Silent()
    assert choose([tmp_path / f"busybox-{ARM64}"], None, story) == (named,)
    assert not story.said


def test_two_for_one_platform_are_refused(machine, tmp_path):
    fake_shell(tmp_path)
    with pytest.raises(UnusableInputError, match="two shells for the same platform"):
        choose([machine, tmp_path / "busybox-62"], None, Silent())


def test_a_machine_without_one_says_what_to_install(machine):
    machine.unlink()
    with pytest.raises(UnusableInputError, match="no static busybox") as caught:
        choose((), None, Silent())
    assert "--shell" in caught.value.hint


def test_a_machine_with_a_dynamic_one_has_none(machine):
    machine.write_bytes(elf(interpreter=True))
    with pytest.raises(UnusableInputError, match="no static busybox"):
        choose((), None, Silent())


def test_the_pinned_one_is_taken_silently(machine, tmp_path):
    pin_shells(tmp_path / "mlops.lock", choose((), None, Silent()))
    story = Silent()
    choose((), tmp_path / "mlops.lock", story)
    assert not story.said


def test_another_than_the_pinned_one_is_refused_and_shown(machine, tmp_path):
    lock = tmp_path / "mlops.lock"
    pin_shells(lock, choose((), None, Silent()))
    before = lock.read_bytes()
    machine.write_bytes(elf(text=b"BusyBox v1.38"))
    with pytest.raises(UnusableInputError, match="is not the shell that") as caught:
        choose((), lock, Silent())
    assert len(caught.value.detail) == 2
    assert f"--shell {machine}" in caught.value.hint
    assert lock.read_bytes() == before
    assert choose([machine], lock, Silent())


def test_a_lock_with_more_platforms_than_the_machine_has_is_not_forgotten(machine, tmp_path):
    lock = tmp_path / "mlops.lock"
    pin_shells(lock, [*choose((), None, Silent()), fake_shell(tmp_path, ARM64)])
    with pytest.raises(UnusableInputError, match="is not the shell that"):
        choose((), lock, Silent())


def test_the_applets_are_those_of_the_recipe():
    assert {"sh", "cat", "sha256sum"} <= set(applets())
