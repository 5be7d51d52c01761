"""What deploy.sh promises, case by case, in every shell that is here. Faults and races: tests/integration/deploy_sh."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes.carrier_tree import (
    APPLETS,
    SCRIPT,
    Shell,
    Volume,
    contents,
    every_shell,
    finish,
    make_carrier,
    wait_until,
)

STRICT = "eufC"
STUCK_COPY = "cp() { exec sleep 30; }"


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(path=tmp_path / "volume", carrier=make_carrier(tmp_path / "image"))


@every_shell
def test_copies_once_and_then_finds(shell: Shell, volume: Volume) -> None:
    first, second = volume.run(shell), volume.run(shell)
    said = rf"{volume.name} {volume.carrier.id[:12]}: {sum(map(len, volume.carrier.files.values()))} bytes in \d+ s\n"
    assert re.fullmatch("copied " + said, first.stdout), first
    assert re.fullmatch("found " + said, second.stdout), second
    assert (first.returncode, second.returncode, first.stderr, second.stderr) == (0, 0, "", "")
    assert volume.is_whole()
    assert volume.is_clean()
    assert volume.link.readlink() == Path("v", volume.carrier.id)


@every_shell
def test_others_can_read_and_nobody_can_write(shell: Shell, volume: Volume) -> None:
    for path in (volume.carrier.root / "models").rglob("*"):
        path.chmod(0o700)
    assert volume.run(shell, before="umask 077").returncode == 0
    modes = {path.is_dir(): path.stat().st_mode & 0o7777 for path in [volume.home, *volume.home.rglob("*")]}
    assert modes == {True: 0o755, False: 0o444}


@every_shell
def test_runs_as_a_program_without_an_expected_id(shell: Shell, volume: Volume) -> None:
    environment = {"PATH": shell.path, **volume.environ()}
    del environment["MODEL_ID"]
    done = subprocess.run([*shell.argv, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert volume.is_whole()


@every_shell
def test_leaves_the_shell_that_sources_it_as_it_was(shell: Shell, volume: Volume) -> None:
    script = f'. {SCRIPT}; trap; echo "$DEPLOYED"; exit 9'
    done = subprocess.run(
        [*shell.argv, "-c", script],
        env={"PATH": shell.path, **volume.environ()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[1:]) == (9, [volume.carrier.id])


@every_shell
@pytest.mark.parametrize("options", [*STRICT, STRICT])
def test_runs_in_a_shell_that_is_strict_and_leaves_it_so(shell: Shell, volume: Volume, options: str) -> None:
    stale = volume.path / f".{volume.name}.{volume.carrier.id}"
    (volume.path / "v" / f".{volume.carrier.id}.1" / "model").mkdir(parents=True)
    stale.symlink_to(f"v/{volume.carrier.id}")
    environment = {"PATH": shell.path, **volume.environ()}
    for expected in ("copied", "found", "copied"):
        done = subprocess.run(
            [*shell.argv, f"-{options}", "-c", f'. {SCRIPT}; echo "$-"'],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        said, left = done.stdout.splitlines()
        assert said.startswith(expected)
        assert set(left) & set(STRICT) == set(options)
        assert volume.is_whole()
        assert volume.is_clean()
        if expected == "found":
            (volume.home / "-dash").unlink()


@every_shell
def test_a_caller_that_goes_on_holds_up_nobody(shell: Shell, volume: Volume, tmp_path: Path) -> None:
    caller = volume.start(shell, after="exec sleep 60")
    wait_until(volume.link.is_symlink)
    wait_until(lambda: not list(volume.path.glob("v/.[0-9a-f]*.*")))
    wine = Volume(path=volume.path, carrier=make_carrier(tmp_path / "wine", {"w": b"w"}, "wine"), name="wine")
    dead = volume.path / "v" / f".{wine.carrier.id}.1"
    dead.mkdir()
    started = time.monotonic()
    assert wine.run(shell).stdout.startswith("copied ")
    assert time.monotonic() - started < 30
    assert not dead.exists()
    assert caller.poll() is None
    os.killpg(caller.pid, signal.SIGKILL)
    finish(caller)


@every_shell
def test_who_holds_the_fifo_open_holds_up_nobody_for_ever(shell: Shell, volume: Volume, tmp_path: Path) -> None:
    """Any reader of the volume can, also through a read-only mount: after a minute of tries they no longer count."""
    dead = volume.path / "v" / f".{volume.carrier.id}.1"
    dead.mkdir(parents=True)
    os.mkfifo(volume.path / "v" / ".alive")
    tries = tmp_path / "tries"
    holder = os.open(volume.path / "v" / ".alive", os.O_RDWR)
    done = volume.run(shell, before='timeout() { printf . >>"$TRIES"; return 143; }', TRIES=str(tries))
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "copied", "")
    assert len(tries.read_text()) == 61
    assert volume.is_whole()
    assert volume.run(shell).stdout.startswith("found ")
    os.close(holder)
    assert volume.run(shell).stdout.startswith("found ")
    assert volume.is_clean()


@every_shell
def test_a_damaged_model_is_replaced_before_it_is_deleted(shell: Shell, volume: Volume, tmp_path: Path) -> None:
    assert volume.run(shell).returncode == 0
    (volume.home / "-dash").unlink()
    seen = tmp_path / "seen"
    look = 'if [ -e "$PLACE/-dash" ]; then echo whole; else echo not; fi >>"$SEEN"'
    done = volume.run(shell, before=f'rm() {{ {look}; command rm "$@"; }}', PLACE=str(volume.home), SEEN=str(seen))
    assert done.stdout.startswith("copied ")
    assert set(seen.read_text().split()) == {"whole"}
    assert volume.is_clean()


@every_shell
@pytest.mark.parametrize("damage", ["missing", "extra", "extra link", "short", "link", "file", "empty", "bits"])
def test_replaces_what_is_damaged(shell: Shell, volume: Volume, damage: str) -> None:
    assert volume.run(shell).returncode == 0
    reader = (volume.home / "model.bin").open("rb")
    victim = volume.home / "model.bin"
    match damage:
        case "missing":
            victim.unlink()
        case "extra":
            (volume.home / "extra").write_bytes(b"")
        case "extra link":
            (volume.home / "extra").symlink_to("model.bin")
        case "short":
            os.truncate(victim, 5)
        case "link":
            victim.unlink()
            victim.symlink_to(volume.carrier.root / "models" / "model.bin")
        case "file" | "empty":
            shutil.rmtree(volume.home)
            volume.home.mkdir() if damage == "empty" else volume.home.write_bytes(b"")
        case "bits":
            victim.chmod(0o600)
            victim.write_bytes(b"\xff" + victim.read_bytes()[1:])
    done = volume.run(shell, MODEL_VERIFY="always" if damage == "bits" else "")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "copied", "")
    assert volume.is_whole()
    assert volume.is_clean()
    with reader:
        assert len(reader.read()) == (5 if damage == "short" else len(volume.carrier.files["model.bin"]))


@every_shell
def test_hashes_what_it_finds_only_when_asked(shell: Shell, volume: Volume) -> None:
    assert volume.run(shell).returncode == 0
    assert volume.run(shell, before="sha256sum() { cat >/dev/null; echo no; }").returncode == 65
    victim = volume.home / "model.bin"
    victim.chmod(0o600)
    victim.write_bytes(b"\xff" + victim.read_bytes()[1:])
    assert volume.run(shell).stdout.startswith("found ")
    assert volume.run(shell, MODEL_VERIFY="always").stdout.startswith("copied ")
    assert volume.run(shell, MODEL_VERIFY="always").stdout.startswith("found ")


@every_shell
def test_the_link_follows_the_last_deployed(shell: Shell, volume: Volume, tmp_path: Path) -> None:
    other = Volume(path=volume.path, carrier=make_carrier(tmp_path / "other", {"model.bin": b"other"}))
    for each in (volume, other, volume):
        assert each.run(shell).returncode == 0
        assert volume.link.resolve() == each.home
    assert volume.is_whole()
    assert other.is_whole()


@every_shell
def test_two_models_share_a_volume(shell: Shell, volume: Volume, tmp_path: Path) -> None:
    wine = Volume(path=volume.path, carrier=make_carrier(tmp_path / "wine", {"w": b"w"}, "wine"), name="wine")
    assert [each.run(shell).returncode for each in (volume, wine)] == [0, 0]
    assert (contents(volume.link.resolve()), contents(wine.link.resolve())) == (
        volume.carrier.files,
        wine.carrier.files,
    )


@every_shell
def test_refuses_a_model_that_the_job_does_not_ask_for(shell: Shell, volume: Volume) -> None:
    done = volume.run(shell, MODEL_ID="0" * 64)
    assert (done.returncode, done.stdout) == (65, "")
    assert volume.carrier.id in done.stderr
    assert not volume.path.exists()


@every_shell
@pytest.mark.parametrize(
    "setting",
    [{"MODEL_ID": "abc"}, {"MODEL_ID": "Z" * 64}, {"MODEL_VOLUME": "relative"}, {"MODEL_VERIFY": "sometimes"}],
    ids=lambda setting: "=".join(*setting.items())[:20],
)
def test_refuses_a_bad_setting(shell: Shell, volume: Volume, setting: dict[str, str]) -> None:
    done = volume.run(shell, **setting)
    assert (done.returncode, done.stdout) == (78, "")
    assert next(iter(setting)) in done.stderr
    assert not volume.path.exists()


@every_shell
@pytest.mark.parametrize("damage", ["bits", "missing", "hidden", "extra", "sums", "sizes", "name"])
def test_refuses_a_damaged_image(shell: Shell, volume: Volume, damage: str) -> None:
    image = volume.carrier.root
    match damage:
        case "bits":
            (image / "models" / "names with blanks" / "a b.txt").write_bytes(b"blankz")
        case "missing":
            shutil.rmtree(image / "models")
        case "hidden":  # by an empty volume that a job mounts there
            shutil.rmtree(image / "models")
            (image / "models").mkdir()
        case "extra":
            (image / "models" / "extra").write_bytes(b"")
        case "sums":
            (image / "carrier" / "SHA256SUMS").unlink()
        case "sizes":
            (image / "carrier" / "SIZES").write_bytes(b"")
        case "name":
            (image / "carrier" / "manifest.json").write_text('{"name": "../../etc"}')
    done = volume.run(shell)
    assert (done.returncode, done.stdout) == (65, ""), done
    assert damage != "bits" or "pull it again: ./names with blanks/a b.txt" in done.stderr
    assert damage not in {"missing", "hidden", "extra"} or "lists: mount nothing over it, or pull" in done.stderr
    assert not volume.home.exists()
    assert not volume.link.exists()
    assert not list(volume.path.glob("v/.[!a]*"))


@every_shell
@pytest.mark.parametrize("plant", ["v", "v/{id}", "v/.alive", "v/.alive=file", "{name}=folder", "{name}=file"])
def test_refuses_what_stands_in_the_way(shell: Shell, volume: Volume, tmp_path: Path, plant: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    where, _, kind = plant.format(id=volume.carrier.id, name=volume.name).partition("=")
    place = volume.path / where
    place.parent.mkdir(parents=True)
    match kind:
        case "folder":
            place.mkdir()
        case "file":
            place.write_bytes(b"mine")
        case _:
            place.symlink_to(outside)
    done = volume.run(shell)
    assert (done.returncode, done.stdout) == (77, "")
    assert f"`{place}`" in done.stderr
    assert not list(outside.iterdir())
    assert not volume.home.is_dir() or volume.home.is_symlink()


@every_shell
def test_planted_links_under_private_names_lead_nowhere(shell: Shell, volume: Volume, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"mine")
    (volume.path / "v").mkdir(parents=True)
    for place in (f"v/.{volume.carrier.id}.1", f"v/.{volume.carrier.id}.x", f".{volume.name}.{volume.carrier.id}"):
        (volume.path / place).symlink_to(outside)
    assert volume.run(shell).returncode == 0
    assert contents(outside) == {"precious": b"mine"}
    assert volume.is_whole()


@every_shell
def test_many_abandoned_copies_are_removed(shell: Shell, volume: Volume) -> None:
    for number in (1, 2, 9, 10, 11):
        (volume.path / "v" / f".{volume.carrier.id}.{number}" / "model").mkdir(parents=True)
    assert volume.run(shell).returncode == 0
    assert volume.is_whole()
    assert volume.is_clean()


@every_shell
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_in_the_copy_is_answered_at_once(shell: Shell, volume: Volume, number: int, code: int) -> None:
    ours = signal.signal(number, signal.SIG_DFL)  # no shell can trap what its parent ignores, as nohup does
    try:
        process = volume.start(shell, before=STUCK_COPY)
    finally:
        signal.signal(number, ours)
    wait_until(lambda: list(volume.path.glob("v/.[0-9a-f]*.1")))
    time.sleep(0.1)
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(25) == code
    assert time.monotonic() - started < 15
    finish(process)
    assert [path.name for path in (volume.path / "v").iterdir()] == [".alive"]
    assert volume.run(shell).returncode == 0


@every_shell
def test_a_signal_while_waiting_leaves_the_other_copy_alone(shell: Shell, volume: Volume, tmp_path: Path) -> None:
    copier = volume.start(shell, before=STUCK_COPY)
    wait_until(lambda: list(volume.path.glob("v/.[0-9a-f]*.1")))
    waits = tmp_path / "waits"
    waiter = volume.start(shell, before='timeout() { echo >>"$WAITS"; exec timeout "$@"; }', WAITS=str(waits))
    wait_until(waits.exists)
    assert waiter.poll() is None
    waiter.terminate()
    assert waiter.wait(20) == 143
    assert list(volume.path.glob("v/.[0-9a-f]*.1"))
    copier.terminate()
    assert copier.wait(20) == 143
    finish(waiter)
    finish(copier)


@every_shell
def test_a_slow_copy_is_waited_for(shell: Shell, volume: Volume) -> None:
    copier = volume.start(shell, before='cp() { sleep 2.5; command cp "$@"; }')
    wait_until(lambda: list(volume.path.glob("v/.[0-9a-f]*.1")))
    waiter = volume.start(shell)
    assert [finish(each)[0].split()[0] for each in (copier, waiter)] == ["copied", "found"]
    assert volume.is_clean()


@every_shell
def test_one_of_the_waiting_takes_over_from_a_dead_copy(shell: Shell, volume: Volume) -> None:
    copier = volume.start(shell, before=STUCK_COPY)
    wait_until(lambda: list(volume.path.glob("v/.[0-9a-f]*.1")))
    waiters = [volume.start(shell) for _ in range(4)]
    time.sleep(0.3)
    os.killpg(copier.pid, signal.SIGKILL)
    finish(copier)
    said = sorted(finish(waiter)[0].split()[0] for waiter in waiters)
    assert said == ["copied", "found", "found", "found"]
    assert volume.is_whole()
    assert volume.is_clean()


@every_shell
def test_a_script_that_cannot_be_read_is_not_success(shell: Shell, volume: Volume) -> None:
    half = volume.carrier.root / "half.sh"
    text = SCRIPT.read_text(encoding="utf-8")
    for part in ("", text[: len(text) // 2].rpartition("\n}\n")[0] + "\n}\n", text.removesuffix("main\n")):
        half.write_text(part)
        script = f'. {half}; [ "$DEPLOYED" = "$MODEL_ID" ]'
        done = subprocess.run([*shell.argv, "-c", script], env={"PATH": shell.path, **volume.environ()}, check=False)
        assert done.returncode != 0
        assert not volume.path.exists()


def test_the_list_of_applets_is_what_the_script_calls(volume: Volume, tmp_path: Path) -> None:
    """With nothing else to call it works; and it has no name that neither the script nor a modelcar calls."""
    dash = shutil.which("dash")
    if dash is None:
        pytest.skip("no dash is here, whose builtins hide none of the applets")
    commands = tmp_path / "bin"
    commands.mkdir()
    for applet in APPLETS:
        if found := shutil.which(applet):
            (commands / applet).symlink_to(found)
    only = Shell(label="dash", argv=(dash,), path=str(commands))
    for expected in ("copied", "found"):
        done = volume.run(only)
        assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, expected, "")
    (volume.home / "extra").write_bytes(b"")
    (volume.path / "v" / f".{volume.carrier.id}.1").mkdir()
    assert volume.run(only).stderr == ""
    code = "\n".join(
        line for line in SCRIPT.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
    )
    modelcar = {"sh", "ln", "sleep"}
    assert sorted(APPLETS) == APPLETS
    assert not [applet for applet in APPLETS if applet not in modelcar and not re.search(rf"\b{applet}\b", code)]
