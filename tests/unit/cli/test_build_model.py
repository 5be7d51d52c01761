"""The command as a user runs it, in a process of its own, on a machine where no engine answers."""

import io
import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from tests.fakes.carriers import ARM64, elf, write_model
from tests.fakes.nobody import as_nobody, readable_copy
from tests.fakes.strace import calls_of

LINE = re.compile(r"^[a-z0-9./:_-]+@sha256:[0-9a-f]{64}\n$")
CONFIG = "service: digits\npreset: kserve-sklearn\nmodel:\n  path: model\n  name: digits\n"


def filled(folder):
    write_model(folder / "model", {"model.bin": os.urandom(5000), "labels.txt": b"0\n"})
    (folder / "sh").write_bytes(elf())
    return folder


@pytest.fixture
def folder(tmp_path):
    return filled(tmp_path)


def command(*arguments):
    return [sys.executable, "-m", "mlops_deploy", "build-model", *map(str, arguments)]


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "MLOPS_"))}
    return kept | {"DOCKER_HOST": "unix:///nowhere.sock", "PYTHONPATH": str(Path.cwd())} | more


@pytest.fixture
def run(folder):
    def running(*arguments, shell="sh", **named):
        shells = ["--shell", shell] if shell else []
        named.setdefault("capture_output", True)
        named.setdefault("text", True)
        return subprocess.run(
            command(*arguments, *shells), cwd=folder, env=environment(), timeout=60, check=False, **named
        )

    return running


def refused(done, code, *words):
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    return done.stderr


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def grown(folder):
    """How many hold part of the model: what comes before it is small, and is named as soon as it is whole."""
    count = 0
    for path in leftovers(folder):
        with suppress(FileNotFoundError):
            count += path.stat().st_size > 2**25
    return count


class TestResult:
    def test_one_line_on_stdout(self, run):
        done = run("model")
        assert done.returncode == 0, done.stderr
        assert LINE.match(done.stdout)
        assert done.stdout.startswith("model@")

    def test_the_line_has_the_tag(self, run):
        assert run("model", "-t", "team/digits:1.0", "-t", "x:2").stdout.startswith("team/digits:1.0@sha256:")

    def test_json_has_the_promised_keys(self, run):
        done = run("model", "-t", "digits:1.0", "--output", "json")
        result = json.loads(done.stdout)
        assert set(result) == {
            "name", "tags", "digest", "content_id", "files", "bytes_read", "bytes_sent", "seconds",
        }  # fmt: skip
        short = result["digest"].removeprefix("sha256:")[:12]
        assert result["tags"] == ["digits:1.0", f"digits:{short}"]
        assert (result["files"], result["bytes_read"], result["bytes_sent"]) == (2, 5002, 0)
        assert re.fullmatch("[0-9a-f]{64}", result["content_id"])

    def test_without_an_engine_it_goes_to_the_store_and_says_so(self, run, folder):
        done = run("model")
        assert "no Docker Engine answers" in done.stderr
        assert (folder / ".mlops" / "store" / "index.json").exists()

    def test_naming_a_destination_replaces_the_default(self, run, folder):
        assert run("model", "--archive", "x.tar").returncode == 0
        assert not (folder / ".mlops" / "store").exists()
        assert run("model", "--store", "elsewhere").returncode == 0
        assert (folder / "elsewhere" / "index.json").exists()
        assert not (folder / ".mlops" / "store").exists()

    def test_the_second_time_nothing_is_read(self, run):
        time.sleep(0.15)
        first = json.loads(run("model", "--output", "json").stdout)
        again = json.loads(run("model", "--output", "json").stdout)
        assert again["bytes_read"] == 0
        assert again["digest"] == first["digest"]

    def test_the_digest_file_has_the_digest(self, run, folder):
        done = run("model", "--digest-file", "digest.txt")
        assert (folder / "digest.txt").read_text().strip() == done.stdout.strip().partition("@")[2]

    def test_the_digest_file_may_be_a_pipe(self, run, folder):
        os.mkfifo(folder / "pipe")
        reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        run("model", "--digest-file", "pipe")
        assert os.read(reader, 100).startswith(b"sha256:")
        os.close(reader)

    def test_two_platforms_give_one_index(self, run, folder):
        (folder / "arm").write_bytes(elf(ARM64))
        done = run("model", "--shell", "arm", "--output", "json")
        digest = json.loads(done.stdout)["digest"].removeprefix("sha256:")
        index = json.loads((folder / ".mlops" / "store" / "blobs" / "sha256" / digest).read_bytes())
        assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]

    @pytest.mark.parametrize(
        ("path", "name"),
        [("My Model.joblib", "my-model"), ("a..b", "a"), ("x___y", "x-y"), ("_A-", "a"), ("v1.2", "v1"), ("Ä-z", "z")],
    )
    def test_the_name_comes_from_the_path(self, run, folder, path, name):
        (folder / path).write_bytes(b"1")
        assert run(path).stdout.startswith(f"{name}@")

    def test_a_dot_takes_the_folders_name_and_its_store_is_no_part_of_it(self, folder):
        (folder / "arm").write_bytes(elf())
        lines = set()
        for _ in range(2):
            done = subprocess.run(
                command(".", "--shell", folder / "arm"), cwd=folder / "model", env=environment(), capture_output=True,
                text=True, check=True,
            )  # fmt: skip
            lines.add(done.stdout)
        assert len(lines) == 1
        assert lines.pop().startswith("model@")


class TestArchive:
    def test_two_destinations_are_served_by_one_read(self, run, folder):
        trace = folder / "trace"
        try:
            strace = ["strace", "-f", "-qq", "-e", "trace=openat,read,readv", "-y", "-o", str(trace)]
            done = subprocess.run(
                [*strace, *command("model", "--store", "s", "--archive", "x.tar", "--shell", "sh")],
                cwd=folder, env=environment(), capture_output=True, text=True, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            pytest.skip("no strace here")
        if "PTRACE" in done.stderr or done.returncode:
            pytest.skip("nothing may be traced here")
        seen = [call for call in calls_of(trace) if "model/model.bin" in call]
        opened = [call for call in seen if call.startswith("openat(")]
        read = [call for call in seen if call.startswith("readv(")]
        assert len(opened) == 1
        assert sum(int(call.rpartition("= ")[2]) for call in read) == 5000

    def test_an_archive_on_stdout_moves_the_line_to_stderr(self, run):
        done = run("model", "--archive", "-", text=False)
        assert done.returncode == 0
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            assert "manifest.json" in tar.getnames()
        last = done.stderr.decode().splitlines()[-1]
        assert LINE.match(last + "\n")

    def test_the_same_bytes_twice_in_a_file_and_on_stdout(self, run, folder):
        run("model", "--archive", "a.tar")
        run("model", "--archive", "b.tar")
        assert (folder / "a.tar").read_bytes() == (folder / "b.tar").read_bytes()
        streams = {run("model", "--archive", "-", text=False).stdout for _ in range(2)}
        assert len(streams) == 1

    def test_a_reader_that_goes_away(self, folder):
        (folder / "model" / "big").write_bytes(bytes(10 * 2**20))
        process = subprocess.Popen(
            command("model", "--archive", "-", "--shell", "sh"), cwd=folder, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        process.stdout.read(1000)
        process.stdout.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        assert process.wait(20) == 1
        assert "Traceback" not in err
        assert "Exception ignored" not in err

    def test_a_reader_that_reads_nothing_cannot_keep_it_from_ending(self, folder):
        (folder / "model" / "big").write_bytes(bytes(10 * 2**20))
        process = subprocess.Popen(
            command("model", "--archive", "-", "--shell", "sh"), cwd=folder, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        select.select([process.stdout], [], [], 20)
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
        err = process.stderr.read().decode()
        process.stdout.close()
        process.stderr.close()
        assert (code, time.monotonic() - started < 10) == (130, True)
        assert "interrupted" in err
        assert "Fatal" not in err

    def test_a_full_device(self, run):
        with Path("/dev/full").open("wb") as full:
            done = run("model", "--archive", "-", capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1
        assert "no space left on device" in done.stderr
        assert "unexpected" not in done.stderr

    def test_a_closed_stdout(self, folder):
        line = f"exec {sys.executable} -m mlops_deploy build-model model --archive - --shell sh >&-"
        done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment(), capture_output=True, check=False)
        assert done.returncode == 1
        assert b"error: the result cannot be written to stdout: it is closed\n" in done.stderr
        assert not (folder / ".mlops").exists()

    def test_a_terminal_is_spared(self, folder):
        master, slave = pty.openpty()
        done = subprocess.run(
            command("model", "--archive", "-", "--shell", "sh"), cwd=folder, env=environment(), stdout=slave,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        os.close(slave)
        os.close(master)
        assert done.returncode == 2
        assert "terminal" in done.stderr

    @pytest.mark.parametrize("target", ["nothing/x.tar", "sh/x.tar"])
    def test_a_target_that_cannot_be_written(self, run, folder, target):
        refused(run("model", "--archive", target), 2, f"the archive `{target}` cannot be written", "hint:")
        assert not leftovers(folder)

    def test_a_target_that_is_a_folder(self, run):
        refused(run("model", "--archive", "model/.."), 2, "is a folder")

    def test_a_device_is_never_replaced(self, run):
        refused(run("model", "--archive", "/dev/null"), 2, "is not a plain file")
        assert not Path("/dev/null").is_file()


class TestRefused:
    def test_no_path_and_no_configuration(self, run):
        refused(run(), 2, "name a model")

    @pytest.mark.parametrize("option", [[""], ["model", "--store", ""], ["model", "--digest-file", ""]])
    def test_an_empty_path_is_not_the_current_folder(self, run, option):
        refused(run(*option), 2, "path is empty")

    @pytest.mark.parametrize("name", ["A", "v", "a b", "-a", "a/b", "a:b", "a..b", "x" * 64])
    def test_a_bad_name(self, run, folder, name):
        refused(run("model", "--name", name), 2, "error:")
        assert not (folder / ".mlops").exists()

    @pytest.mark.parametrize("tag", ["x", "x:", "X:1", ":1", "x:1@sha256:" + "0" * 64, "x:-", "a b:1", ""])
    def test_a_bad_tag(self, run, folder, tag):
        refused(run("model", "-t", tag), 2, "error:", "hint:")
        assert not (folder / ".mlops").exists()

    def test_a_missing_model_changes_nothing(self, run, folder):
        before = sorted(folder.rglob("*"))
        refused(run("nothing", "--archive", "x.tar", "--store", "s"), 2, "`nothing` cannot be read")
        assert sorted(folder.rglob("*")) == before

    def test_a_path_that_leads_in_a_circle(self, run, folder):
        (folder / "loop").symlink_to("loop")
        (folder / "mlops.yml").write_text(CONFIG)
        refused(run("loop"), 2, "cannot be read")

    @pytest.mark.parametrize("shell", ["nothing", "model", "model/labels.txt"])
    def test_a_bad_shell(self, run, shell):
        refused(run("model", shell=shell), 2, "the shell")

    def test_a_dynamic_shell(self, run, folder):
        (folder / "sh").write_bytes(elf(interpreter=True))
        refused(run("model"), 2, "linked dynamically")

    def test_two_shells_for_one_platform(self, run):
        refused(run("model", "--shell", "sh"), 2, "two shells for the same platform")

    def test_load_without_an_engine(self, run):
        refused(run("model", "--load"), 8, "no Docker Engine answers", "hint:")

    @pytest.mark.parametrize(
        "option",
        [["--store", "model/store"], ["--archive", "model/x.tar"], ["--archive", "model/model.bin"],
         ["--digest-file", "model/labels.txt"], ["--store", "model"]],
    )  # fmt: skip
    def test_nothing_is_written_into_the_model(self, run, folder, option):
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        refused(run("model", *option), 2, "lies inside the model")
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    def test_a_store_that_is_a_file(self, run, folder):
        for path in ("sh", "sh/below"):
            (folder / "sh").write_bytes(elf())
            refused(run("model", "--store", path), 2, f"the store `{path}`")

    def test_an_index_that_is_garbage(self, run, folder):
        run("model")
        (folder / ".mlops" / "store" / "index.json").write_text("garbage")
        refused(run("model"), 1, "cannot be read as an image index", "hint:")

    @pytest.mark.parametrize(
        ("target", "why"),
        [("nothing/digest", "cannot be written"), ("sh/digest", "cannot be written"), (".", "folder")],
    )
    def test_a_digest_file_that_cannot_be_written_is_found_before_the_build(self, run, folder, target, why):
        refused(run("model", "--digest-file", target), 2, f"the digest file `{target}`", why)
        assert not (folder / ".mlops").exists()

    def test_one_file_for_two_results(self, run, folder):
        refused(run("model", "--archive", "x", "--digest-file", "./x"), 2, "would overwrite `x`")
        assert not (folder / "x").exists()

    @pytest.mark.parametrize("option", ["--archive", "--digest-file"])
    def test_the_shell_is_not_overwritten(self, run, folder, option):
        refused(run("model", option, "sh"), 2, "would overwrite `sh`")
        assert (folder / "sh").read_bytes() == elf()

    @pytest.mark.parametrize(
        "option", [["--name", ""], ["--archive", ""], ["--store", ""], ["--shell", ""], ["-f", ""]]
    )
    def test_an_empty_value_is_not_none_at_all(self, run, folder, option):
        refused(run("model", *option), 2, "is empty")
        assert not (folder / ".mlops").exists()

    def test_the_short_tag_is_nobody_elses(self, run, folder):
        refused(run("model", "-t", "digits:0123456789ab"), 2, "belongs to one carrier alone", "hint:")
        assert not (folder / ".mlops").exists()
        assert run("model", "-t", "digits:0123456789abc").returncode == 0

    @pytest.mark.parametrize(
        "arguments", [["x" * 300], ["model", "--archive", "x" * 300], ["model", "--store", "x" * 300]]
    )
    def test_a_name_that_no_file_can_have(self, run, arguments):
        assert "unexpected" not in refused(run(*arguments), 2, "too long")

    def test_a_root_gives_no_name(self, run):
        refused(run("/"), 2, "the path `/` gives the model no name", "`--name`")

    def test_a_removed_working_folder(self, folder):
        line = f'mkdir gone && cd gone && rmdir ../gone && exec "$@" {folder}/model --shell {folder}/sh'
        done = subprocess.run(
            ["sh", "-c", line, "sh", *command()], cwd=folder, env=environment(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        refused(done, 2, "the working folder has been removed", "hint:")

    def test_a_missing_model_says_what_to_do(self, run):
        refused(run("nope"), 2, "`nope` cannot be read: no such file or directory", "hint: name a file or a folder")


@pytest.fixture(scope="module")
def installed():
    with tempfile.TemporaryDirectory() as name:
        yield readable_copy(Path(name))


@pytest.mark.skipif(bool(os.geteuid()), reason="only root can become nobody")
class TestReadOnly:
    """As a user who may read, but not write."""

    @pytest.fixture
    def folder(self):
        """Not below pytest's own, which it closes to others whenever it is begun once more."""
        with tempfile.TemporaryDirectory() as name:
            Path(name).chmod(0o755)
            yield filled(Path(name))

    @pytest.fixture
    def nobody(self, folder, installed):
        for above in (folder, *folder.parents, *installed.parents):
            if above != Path("/") and above.stat().st_mode & 0o055 != 0o055:
                above.chmod(above.stat().st_mode | 0o055)

        def running(*arguments):
            line = as_nobody("build-model", *arguments, "--shell", "sh")
            place = environment(PYTHONPATH=str(installed))
            return subprocess.run(line, cwd=folder, env=place, capture_output=True, text=True, check=False)

        return running

    @pytest.mark.parametrize(
        ("option", "what"),
        [("--store", "the store `x`"), ("--archive", "the archive `x`")],
    )
    def test_a_folder_that_may_not_be_written(self, folder, nobody, option, what):
        refused(nobody("model", option, "x"), 1, f"{what} cannot be written: permission denied")
        assert not (folder / "x").exists()

    def test_a_store_that_may_not_be_written(self, folder, nobody, run):
        run("model", "--store", "s")
        refused(nobody("model", "--store", "s"), 1, "the store `s` cannot be written: permission denied")

    def test_a_cache_that_may_not_be_written_is_done_without(self, folder, nobody, run):
        time.sleep(0.15)
        run("model")
        (folder / "out").mkdir(mode=0o777)
        (folder / "out").chmod(0o777)
        done = nobody("model", "--store", "out/s", "--output", "json")
        assert done.returncode == 0, done.stderr
        again = nobody("model", "--store", "out/s", "--output", "json")
        assert json.loads(again.stdout)["bytes_read"] == 0

    def test_without_a_cache_it_is_read_again(self, folder, nobody):
        (folder / "out").mkdir()
        (folder / "out").chmod(0o777)
        for _ in range(2):
            done = nobody("model", "--store", "out/s", "--output", "json")
            assert json.loads(done.stdout)["bytes_read"] == 5002

    def test_a_model_that_may_not_be_read(self, folder, nobody):
        (folder / "model" / "model.bin").chmod(0)
        refused(nobody("model"), 2, "`model.bin`: permission denied")
        assert not (folder / ".mlops").exists()


class TestProject:
    @pytest.fixture
    def project(self, folder):
        (folder / "mlops.yml").write_text(CONFIG)
        return folder

    def test_path_and_name_come_from_the_configuration(self, run, project):
        assert run().stdout.startswith("digits@")

    def test_the_first_build_pins_the_shell(self, run, project):
        assert run().returncode == 0
        assert "linux/amd64" in json.loads((project / "mlops.lock").read_bytes())["shells"]

    def test_a_failed_build_pins_nothing(self, run, project):
        (project / "model" / "-bad").touch()
        refused(run(), 2)
        assert not (project / "mlops.lock").exists()

    def test_a_named_shell_replaces_the_pinned_one(self, run, project):
        first = run().stdout
        (project / "sh").write_bytes(elf(text=b"BusyBox v1.38"))
        second = run().stdout
        assert LINE.match(second)
        assert first != second

    def test_a_lock_that_is_garbage(self, run, project):
        (project / "mlops.lock").write_text("garbage")
        refused(run(shell=None), 2, "is not a lock file", "hint:")

    @pytest.mark.parametrize("option", ["--archive", "--digest-file"])
    @pytest.mark.parametrize(
        "target", ["mlops.yml", "mlops.dev.yml", "mlops.prod.yml", "mlops.lock", "golden.json", "hook.py", "link"]
    )
    def test_nothing_of_the_project_is_overwritten(self, run, project, option, target):
        (project / "mlops.yml").write_text(f"{CONFIG}server:\n  hook: hook.py\nready:\n  golden: golden.json\n")
        (project / "mlops.dev.yml").write_text("port: 1\n")
        (project / "mlops.prod.yml").write_text("port: 2\n")
        (project / "hook.py").write_text("")
        (project / "link").symlink_to("mlops.yml")
        request = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}
        answer = {"outputs": [{"name": "y", "shape": [1], "datatype": "FP64", "data": [1]}]}
        (project / "golden.json").write_text(json.dumps({"request": request, "expect": answer["outputs"]}))
        before = {path: path.read_bytes() for path in project.glob("*") if path.is_file()}
        refused(run("-e", "dev", option, target), 2, "would overwrite")
        assert {path: path.read_bytes() for path in project.glob("*") if path.is_file()} == before

    def test_the_store_is_not_overwritten(self, run, project):
        assert run().returncode == 0
        refused(run("--archive", ".mlops/store/index.json"), 2, "lies inside the store")

    def test_a_configured_path_that_no_file_can_have(self, run, project):
        (project / "mlops.yml").write_text(CONFIG.replace("path: model", f"path: {'x' * 300}"))
        refused(run(), 2, "cannot be read: file name too long")

    @pytest.mark.parametrize("path", [".", ""])
    def test_a_model_folder_that_holds_the_configuration(self, run, project, path):
        (project / "mlops.yml").write_text(CONFIG.replace("path: model", "path: ."))
        before = sorted(project.rglob("*"))
        refused(run(*filter(None, [path])), 2, "holds the configuration `mlops.yml`", "a folder of its own")
        assert sorted(project.rglob("*")) == before

    def test_a_model_folder_around_the_working_folder(self, folder):
        (folder / "model" / "sub").mkdir()
        done = subprocess.run(
            command("..", "--archive", folder / "x.tar", "--shell", folder / "sh"), cwd=folder / "model" / "sub",
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        refused(done, 2, "holds the folder that this command runs in", "hint:")
        assert not (folder / "model" / "sub" / ".mlops").exists()


class TestNextCommand:
    """The last line on stderr names a command that works."""

    @pytest.mark.parametrize(
        ("options", "following"),
        [
            ([], "mlops-deploy serve model"),
            (["-t", "x/y:1"], "mlops-deploy serve x/y:1"),
            (["--archive", "a b.tar"], "mlops-deploy inspect 'a b.tar'"),
            (["--store", "s", "-t", "y:1"], "mlops-deploy inspect y:1 --store s"),
        ],
    )
    def test_it_reads_what_was_built(self, run, folder, options, following):
        done = run("model", *options)
        assert done.stderr.splitlines()[-1] == f"next: {following}"
        if "inspect" in following:
            line = f"{sys.executable} -m mlops_deploy {following.removeprefix('mlops-deploy ')}"
            subprocess.run(["sh", "-c", line], cwd=folder, env=environment(), check=True, capture_output=True)

    def test_a_project_is_released(self, run, folder):
        (folder / "mlops.yml").write_text(CONFIG)
        (folder / "mlops.dev.yml").write_text("port: 1234\n")
        assert run().stderr.splitlines()[-1] == "next: mlops-deploy release"
        assert run("-e", "dev").stderr.splitlines()[-1] == "next: mlops-deploy release -e dev"
        (folder / "other").write_bytes(b"1")
        assert run("other").stderr.splitlines()[-1] == "next: mlops-deploy serve other"


def spent():
    """Seconds of processors that commands which have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class TestInterrupted:
    @pytest.fixture
    def big(self, folder):
        with (folder / "model" / "big").open("wb") as file:
            file.truncate(8 * 2**30)
        return folder

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("after", [0.0, 0.3])
    def test_a_signal_ends_it_at_once_and_leaves_nothing(self, big, signum, after):
        before = spent()
        process = subprocess.Popen(
            command("model", "--store", "s", "--archive", "x.tar", "--shell", "sh"), cwd=big, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while not (big / "s").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(after)
        started = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
        assert time.monotonic() - started < 15
        assert spent() - before < 5  # what is left to read takes far more of the processors, on any machine
        assert out == ""
        assert "interrupted" in err
        assert not leftovers(big)
        assert not (big / "x.tar").exists()

    def test_a_killed_build_is_swept_up_by_the_next(self, big, run):
        process = subprocess.Popen(
            command("model", "--store", "s", "--archive", "x.tar", "--shell", "sh"), cwd=big, env=environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while grown(big) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert len(leftovers(big)) == 2
        (big / "model" / "big").unlink()
        assert run("model", "--store", "s", "--archive", "x.tar").returncode == 0
        assert not leftovers(big)

    def test_killed_at_any_moment_the_store_is_whole(self, folder, run):
        """Every blob has the digest of its name, and the next build works."""
        for number in range(6):
            (folder / "model" / f"f{number}").write_bytes(os.urandom(2**20))
        started = time.monotonic()
        run("model", "--store", "first")
        whole = time.monotonic() - started
        for step in range(12):
            process = subprocess.Popen(
                command("model", "--store", "s", "--shell", "sh"), cwd=folder, env=environment(),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(whole * (0.4 + 0.6 * step / 12))
            process.kill()
            process.wait()
            check_blobs(folder / "s")
        assert run("model", "--store", "s").returncode == 0
        check_blobs(folder / "s")
        assert not leftovers(folder)


def check_blobs(store):
    for path in (store / "blobs" / "sha256").glob("[0-9a-f]*"):
        assert sha256(path.read_bytes()).hexdigest() == path.name
    if (store / "index.json").exists():
        index = json.loads((store / "index.json").read_bytes())
        for entry in index["manifests"]:
            assert (store / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")).exists()


def test_many_builds_at_once_into_one_store(folder, run):
    for number in range(4):
        write_model(folder / f"m{number}", {"a": os.urandom(3 * 2**20), "shared": b"1"})
    results = {}

    def build(number):
        path = "model" if number % 2 else f"m{number}"
        results[number] = run(path, "--store", "s", "-t", f"x{number}:1")

    threads = [threading.Thread(target=build, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[number].returncode for number in range(4)] == [0] * 4, results
    check_blobs(folder / "s")
    assert len((folder / "s" / "log.jsonl").read_text().splitlines()) == 4
    names = {
        entry["annotations"]["org.opencontainers.image.ref.name"]
        for entry in json.loads((folder / "s" / "index.json").read_bytes())["manifests"]
    }
    assert {f"x{number}:1" for number in range(4)} <= names
    assert not leftovers(folder)


class TestProgress:
    def test_lines_off_a_terminal(self, run):
        err = run("model").stderr
        assert "\r" not in err
        assert "\x1b" not in err
        assert "2 files, 5,002 bytes" in err

    def test_a_bar_with_rate_on_a_terminal(self, folder):
        with (folder / "model" / "big").open("wb") as file:
            file.truncate(300 * 2**20)
        master, slave = pty.openpty()
        process = subprocess.Popen(
            command("model", "--store", "s", "--shell", "sh"), cwd=folder, env=environment(TERM="xterm"), stderr=slave,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(slave)
        shown = bytearray()
        try:
            while data := os.read(master, 65536):
                shown += data
        except OSError:
            pass  # how a terminal ends
        os.close(master)
        assert process.wait(20) == 0
        assert re.search(rb"[kMG]B/s", shown)
        assert b"carrier of `model`" in shown
