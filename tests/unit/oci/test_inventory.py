import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.inventory import require_unchanged, take_inventory

ROOT = os.geteuid() == 0


def paths(path):
    return [file.path for file in take_inventory(path).files]


def refused(path):
    with pytest.raises(UnusableInputError) as caught:
        take_inventory(path)
    return "\n".join((str(caught.value), *caught.value.detail))


@pytest.fixture
def model(tmp_path):
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights.bin").write_bytes(b"w")
    return root


class TestWorks:
    def test_a_file_is_a_model_of_one_file(self, model):
        assert paths(model / "weights.bin") == ["weights.bin"]

    def test_files_are_sorted_by_the_bytes_of_their_paths(self, model):
        for name in ("b/x", "b-/x", "B", "é", "z"):
            (model / name).parent.mkdir(exist_ok=True)
            (model / name).write_bytes(b"1")
        found = [path.encode() for path in paths(model)]
        assert found == sorted(found)

    def test_names_with_blanks_and_beyond_ascii(self, model):
        for name in ("two words", "größe", "模型", "a'b\"c", "$HOME", "a:b", ".hidden", "CASE", "case", "x" * 255):
            (model / name).write_bytes(b"1")
        assert len(paths(model)) == 11

    def test_composed_and_decomposed_names_are_two(self, model):
        (model / "\u00e9").write_bytes(b"1")
        (model / "e\u0301").write_bytes(b"1")
        assert len(paths(model)) == 3

    def test_a_trailing_slash_and_a_dot_mean_the_folder(self, model, monkeypatch):
        assert paths(Path(f"{model}/")) == ["weights.bin"]
        monkeypatch.chdir(model)
        assert paths(Path()) == ["weights.bin"]
        assert paths(Path("../model/.")) == ["weights.bin"]

    def test_a_path_that_is_a_link_to_a_folder(self, model, tmp_path):
        (tmp_path / "current").symlink_to(model)
        assert take_inventory(tmp_path / "current") == take_inventory(model)

    def test_a_path_that_is_a_link_to_a_file_gives_the_name(self, model, tmp_path):
        (tmp_path / "model.joblib").symlink_to(model / "weights.bin")
        assert paths(tmp_path / "model.joblib") == ["model.joblib"]

    def test_links_inside_are_copies(self, model):
        (model / "sub").mkdir()
        (model / "sub" / "a").write_bytes(b"1")
        (model / "file-link").symlink_to("weights.bin")
        (model / "folder-link").symlink_to("sub")
        (model / "sub" / "up").symlink_to("../weights.bin")
        (model / "absolute").symlink_to(model / "weights.bin")
        assert paths(model) == [
            "absolute",
            "file-link",
            "folder-link/a",
            "folder-link/up",
            "sub/a",
            "sub/up",
            "weights.bin",
        ]

    def test_a_cache_of_blobs_and_snapshots(self, tmp_path):
        cache = tmp_path / "cache"
        (cache / "blobs").mkdir(parents=True)
        (cache / "blobs" / "0123").write_bytes(b"1")
        (cache / "snapshots" / "main").mkdir(parents=True)
        (cache / "snapshots" / "main" / "model.bin").symlink_to("../../blobs/0123")
        assert paths(cache) == ["blobs/0123", "snapshots/main/model.bin"]
        assert "a link that leaves the folder" in refused(cache / "snapshots" / "main")

    def test_hard_links_are_two_files(self, model):
        (model / "again").hardlink_to(model / "weights.bin")
        assert paths(model) == ["again", "weights.bin"]

    def test_empty_files_beside_others(self, model):
        (model / "empty").touch()
        assert paths(model) == ["empty", "weights.bin"]

    def test_a_sparse_file_beyond_8_gib_is_seen_at_once(self, model):
        with (model / "huge").open("wb") as file:
            file.truncate(2**40)
        started = time.monotonic()
        assert take_inventory(model).size == 2**40 + 1
        assert time.monotonic() - started < 10

    def test_folders_as_deep_as_a_path_can_be(self, model):
        deep = model
        for _ in range(900):
            deep = deep / "d"
        deep.mkdir(parents=True)
        (deep / "f").write_bytes(b"1")
        assert len(paths(model)) == 2

    def test_the_products_own_folder_is_no_part_of_a_model(self, model):
        (model / ".mlops" / "store").mkdir(parents=True)
        (model / ".mlops" / "store" / "log.jsonl").write_bytes(b"1")
        (model / "sub" / ".mlops").mkdir(parents=True)
        (model / "sub" / ".mlops" / "x").write_bytes(b"1")
        assert paths(model) == ["sub/.mlops/x", "weights.bin"]


class TestRefused:
    def test_missing(self, tmp_path):
        assert "no such file" in refused(tmp_path / "nothing")

    def test_a_file_used_as_a_folder(self, model):
        assert "not a directory" in refused(model / "weights.bin" / "x")

    @pytest.mark.parametrize("prepare", [lambda path: path.mkdir(), lambda path: path.touch()])
    def test_empty(self, tmp_path, prepare):
        prepare(tmp_path / "model")
        assert "is empty" in refused(tmp_path / "model")

    def test_only_empty_files_and_folders(self, tmp_path):
        (tmp_path / "m" / "sub").mkdir(parents=True)
        (tmp_path / "m" / "a").touch()
        assert "is empty" in refused(tmp_path / "m")

    def test_a_path_that_leads_in_a_circle(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        assert "circle" in refused(tmp_path / "loop") or "symbolic links" in refused(tmp_path / "loop")

    def test_links_that_leave_are_named_with_their_target(self, model, tmp_path):
        (tmp_path / "secret").write_bytes(b"1")
        (model / "out").symlink_to(tmp_path / "secret")
        (model / "up").symlink_to("..")
        text = refused(model)
        assert f"`out`: a link that leaves the folder, to `{tmp_path / 'secret'}`" in text
        assert "`up`: a link that leaves the folder" in text

    def test_a_neighbour_whose_name_begins_alike_is_outside(self, model, tmp_path):
        (tmp_path / "model-2").mkdir()
        (tmp_path / "model-2" / "a").write_bytes(b"1")
        (model / "out").symlink_to("../model-2/a")
        assert "leaves the folder" in refused(model)

    def test_dangling_links(self, model):
        (model / "gone").symlink_to("nothing")
        assert "`gone`: no such file" in refused(model)

    @pytest.mark.parametrize("target", [".", "sub", "../model", "sub/back"])
    def test_links_that_lead_back(self, model, target):
        (model / "sub").mkdir()
        (model / "sub" / "back").symlink_to(model)
        (model / "loop").symlink_to(target)
        assert "leads back into itself" in refused(model)

    def test_links_in_a_circle(self, model):
        (model / "a").symlink_to("b")
        (model / "b").symlink_to("a")
        assert "`a`" in refused(model)

    def test_links_that_multiply_are_bounded(self, model):
        for level in range(40):
            (model / f"d{level}").mkdir()
            for way in "lr":
                (model / f"d{level}" / way).symlink_to(f"../d{level + 1}")
        (model / "d40").mkdir()
        started = time.monotonic()
        assert "links to folders inside one another" in refused(model)
        assert time.monotonic() - started < 20

    def test_too_many_entries_are_bounded(self, model, monkeypatch):
        monkeypatch.setattr("mlops_deploy.oci.inventory.MOST_ENTRIES", 10)
        for number in range(11):
            (model / f"f{number}").touch()
        assert "more than 10 files and folders" in refused(model)

    def test_what_is_no_file(self, model):
        os.mkfifo(model / "fifo")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(model / "socket"))
            (model / "device").symlink_to(model / "fifo")
            text = refused(model)
        assert "`fifo`: a FIFO, not a file" in text
        assert "`socket`: a socket, not a file" in text
        assert "`device`: a FIFO, not a file" in text

    @pytest.mark.skipif(not ROOT, reason="only root makes devices")
    def test_devices(self, model):
        try:
            os.mknod(model / "null", 0o20666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("devices cannot be made in this container")
        assert "`null`: a device, not a file" in refused(model)

    def test_a_fifo_as_path_does_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        assert "a FIFO, not a file" in refused(tmp_path / "fifo")

    @pytest.mark.parametrize(
        "name",
        ["new\nline", "a\tb", "\x7f", "\x01", "back\\slash", "-dash", ".wh.x", " front", "end ", "\u0085", "\u2028"],
    )
    def test_names_that_cannot_travel(self, model, name):
        (model / name).write_bytes(b"1")
        assert "a name may not have" in refused(model)

    @pytest.mark.parametrize("name", ["-d", ".wh..opq", "a\nb"])
    def test_folders_whose_names_cannot_travel(self, model, name):
        (model / name).mkdir()
        (model / name / "f").write_bytes(b"1")
        assert "a name may not have" in refused(model)

    def test_names_that_are_not_utf_8(self, model):
        Path(os.fsdecode(bytes(model) + b"/\xff\xfe")).write_bytes(b"1")
        text = refused(model)
        assert "not valid UTF-8" in text
        assert text.isprintable() or "\n" in text
        text.encode()

    def test_paths_that_no_volume_could_hold(self, model):
        deep = model.joinpath(*["d" * 250] * 9)
        deep.mkdir(parents=True)
        (deep / "f").write_bytes(b"1")
        assert "a path 2,048" in refused(model)

    def test_all_bad_names_are_listed_at_once(self, model):
        for name in ("-a", ".wh.b", "c\n", "d\\"):
            (model / name).write_bytes(b"1")
        (model / "out").symlink_to("/etc/passwd")
        text = refused(model)
        assert "5 things that cannot" in text
        for name in ("`-a`", "`.wh.b`", r"`c\n`", "`d\\`", "`out`"):
            assert name in text

    def test_a_long_list_is_cut(self, model):
        for number in range(30):
            (model / f"-{number}").touch()
        assert "30 things" in refused(model)
        assert "… and 10 more" in refused(model)

    def test_a_hostile_name_cannot_reach_the_terminal(self, model):
        (model / "\x1b[31mred").touch()
        assert "\x1b" not in refused(model)


LINKED = "sub", "linked"


class TestUnchanged:
    @pytest.fixture
    def taken(self, model):
        for name in ("sub/a", "other/a"):
            (model / name).parent.mkdir()
            (model / name).write_bytes(b"1")
        (model / LINKED[1]).symlink_to(LINKED[0])
        (model / "link").symlink_to("sub/a")
        return take_inventory(model)

    def refused(self, taken):
        with pytest.raises(UnusableInputError) as caught:
            require_unchanged(taken)
        assert "writes the model has finished" in caught.value.hint
        return str(caught.value)

    def test_what_is_as_it_was(self, taken):
        require_unchanged(taken)

    @pytest.mark.parametrize("name", ["new", ".new.swp", "été"])
    def test_a_new_file_names_its_folder(self, taken, model, name):
        (model / name).touch()
        assert self.refused(taken) == f"the model folder `{model}` changed while it was read"

    def test_a_new_file_in_a_folder_below_also_by_a_link(self, taken, model):
        (model / "linked" / "new").write_bytes(b"1")
        assert self.refused(taken) in {
            f"the model folder `{way}` changed while it was read" for way in ("sub", "linked")
        }

    def test_a_new_file_within_the_resolution_of_the_folders_times(self, taken, model):
        times = model.stat()
        (model / "new").write_bytes(b"1")
        os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert "the model folder" in self.refused(taken)

    def test_a_new_folder_with_files(self, taken, model):
        (model / "sub" / "more").mkdir()
        (model / "sub" / "more" / "b").write_bytes(b"1")
        assert "the model folder `" in self.refused(taken)

    def test_a_link_that_leads_elsewhere_now(self, taken, model):
        (model / "link").unlink()
        (model / "link").symlink_to("other/a")
        assert self.refused(taken) == f"the model folder `{model}` changed while it was read"

    def test_a_file_that_went_is_named_itself(self, taken, model):
        (model / "other" / "a").unlink()
        assert self.refused(taken) == "the model file `other/a` changed while it was read"

    def test_a_folder_that_went(self, model):
        (model / "empty").mkdir()
        taken = take_inventory(model)
        (model / "empty").rmdir()
        assert "the model folder `" in self.refused(taken)

    def test_what_came_and_went_changed_nothing(self, taken, model):
        (model / "sub" / ".a.swp").write_bytes(b"1")
        (model / "sub" / ".a.swp").unlink()
        require_unchanged(taken)

    def test_the_products_own_folder_may_come(self, taken, model):
        (model / ".mlops" / "cache").mkdir(parents=True)
        require_unchanged(taken)
        (model / "sub" / ".mlops").mkdir()
        assert "the model folder `" in self.refused(taken)

    def test_a_model_of_one_file_has_no_neighbours(self, model):
        taken = take_inventory(model / "weights.bin")
        (model / "new").write_bytes(b"1")
        require_unchanged(taken)


@pytest.mark.skipif(not ROOT, reason="only root can become nobody")
@pytest.mark.parametrize(("mode", "what"), [(0o000, "weights.bin"), (0o000, "sub"), (0o444, "sub")])
def test_what_cannot_be_read_is_refused(model, mode, what):
    (model / "sub").mkdir()
    (model / "sub" / "f").write_bytes(b"1")
    for folder in (model, *model.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (model / what).chmod(mode)
    code = f"""
import os, pathlib, mlops_deploy.oci.inventory as inventory
os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
try: inventory.take_inventory(pathlib.Path({str(model)!r}))
except inventory.UnusableInputError as error: print(error, *error.detail)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "permission denied" in done.stdout, done.stderr
    assert what in done.stdout
