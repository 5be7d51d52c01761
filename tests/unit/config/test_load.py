"""The pipeline as a whole: what a good file means, and how files lie over each other."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_deploy.config import marks
from mlops_deploy.config.load import Examined, load
from mlops_deploy.errors import ConfigError
from mlops_deploy.spec.deploy import (
    DeploySpec,
    GoldenRequest,
    ModelSpec,
    Ready,
    ReleaseSpec,
    Resources,
    ServerSpec,
)
from mlops_deploy.spec.kubernetes import KubernetesSpec, KubernetesVolume
from mlops_deploy.spec.registry import RegistrySpec

Look = Callable[..., Examined]

LEAST = "service: digits\nmodel: {path: m}\n"
MOST = """\
x-team: {anything: [goes, here]}
service: digits
model:
  path: models/digits.joblib
  name: digits-v2
  requires: [scikit-learn==1.7.2, 'numpy >=2, <3', pandas]
  licence: Apache-2.0
  signature: {inputs: [{name: x, shape: [-1, 64], scale: 0.5, optional: false, unit: null}]}
preset: kserve-sklearn
server: {image: 'registry.example.com:5000/ml/server:1.0', base: python:3.12-slim, hook: hook.py, constraints: c.txt}
target: compose
port: 9000
env: {A: on, B: 1_000, C: 1.10, D: 2024-01-01, E: 'x: y', F: "", G: true, H: null-ish, NO: 1, I: "tab\\there"}
resources: {cpu: 0.5, memory: 1.5G}
user: 1000:10
ready: {golden: golden.jsonl, deadline: 1h30m}
release: {strategy: canary, bake: 0s, drain: 1.5s, deadline: 2m}
bootstrap: pull
registry:
  credentials: /etc/registry.json
  ca: our-ca
  insecure: true
  proxy: http://proxy.example.com:3128
  no_proxy: .internal, 10.0.0.0/8
  puller: registry.example.com/ml/puller:1
kubernetes: {namespace: predictions, volume: {kind: image, size: 2Gi}}
"""
GOLDEN = '{"request": {"inputs": [{"data": [1, 2.5]}]}, "expect": [{"data": ["\\ud83d\\ude42"]}], "tolerance": 0.1}\n'


def spec_of(examined: Examined) -> DeploySpec:
    assert examined.spec is not None, [issue.message for issue in examined.issues]
    return examined.spec


def errors_of(examined: Examined) -> list[tuple[str, str]]:
    return [(str(one.mark), one.message) for one in examined.issues if one.severity == "error"]


def test_the_least_file_has_every_default(look: Look, folder: Path) -> None:
    assert spec_of(look(LEAST)) == DeploySpec(
        root=folder,
        service="digits",
        environment=None,
        model=ModelSpec(path=folder / "m", name="digits"),
        preset="kserve-sklearn",
        server=ServerSpec(),
        target=None,
        port=8080,
        env={},
        resources=Resources(),
        user=None,
        ready=Ready(),
        release=ReleaseSpec(),
    )


def test_the_fullest_file(look: Look, folder: Path) -> None:
    (folder / "golden.jsonl").write_text("\n" + GOLDEN)
    (folder / "hook.py").touch()
    (folder / "c.txt").touch()
    spec = spec_of(look(MOST))
    assert spec.model == ModelSpec(
        path=folder / "models/digits.joblib",
        name="digits-v2",
        requires=("scikit-learn==1.7.2", "numpy >=2, <3", "pandas"),
        licence="Apache-2.0",
        signature={"inputs": [{"name": "x", "shape": [-1, 64], "scale": 0.5, "optional": False, "unit": None}]},
    )
    assert spec.server == ServerSpec(
        image="registry.example.com:5000/ml/server:1.0",
        base="python:3.12-slim",
        hook=folder / "hook.py",
        constraints=folder / "c.txt",
    )
    assert (spec.preset, spec.target, spec.port, spec.user) == ("kserve-sklearn", "docker", 9000, "1000:10")
    assert spec.env == {
        "A": "on", "B": "1_000", "C": "1.10", "D": "2024-01-01", "E": "x: y", "F": "", "G": "true", "H": "null-ish",
        "NO": "1", "I": "tab\there",
    }  # fmt: skip
    assert spec.resources == Resources(cpu=0.5, memory=1_500_000_000)
    request = GoldenRequest(request={"inputs": [{"data": [1, 2.5]}]}, expect=({"data": ["🙂"]},), tolerance=0.1)
    assert spec.ready == Ready(golden=(request,), deadline=5400.0)
    assert spec.release == ReleaseSpec(strategy="canary", bake=0.0, drain=1.5, deadline=120.0)
    assert spec.bootstrap == "pull"
    assert spec.registry == RegistrySpec(
        credentials="/etc/registry.json",
        ca="our-ca",
        insecure=True,
        proxy="http://proxy.example.com:3128",
        no_proxy=".internal, 10.0.0.0/8",
        puller="registry.example.com/ml/puller:1",
    )
    volume = KubernetesVolume(kind="image", size=2 << 30)
    assert spec.kubernetes == KubernetesSpec(namespace="predictions", volume=volume)


def test_the_pure_python_parser_reads_the_same(look: Look, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hook.py", "c.txt"):
        (folder / name).touch()
    (folder / "golden.jsonl").write_text(GOLDEN)
    fast = spec_of(look(MOST))
    monkeypatch.setattr(marks, "_LOADER", marks.yaml.SafeLoader)
    assert spec_of(look(MOST)) == fast
    assert errors_of(look(LEAST + "port: *a\n")) == [("mlops.yml:3:7", "the alias `*a` is not supported")]


def test_json_is_read_with_tabs_and_escapes(look: Look) -> None:
    document = {"service": "digits", "model": {"path": "m"}, "env": {"A": "🙂\\ud83d\\ude42", "U": "a/b\u2028"}}
    text = json.dumps(document, indent="\t").replace("/", "\\/")
    assert spec_of(look(text, name="mlops.json")).env == document["env"]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(look: Look) -> None:
    assert spec_of(look("\ufeff" + LEAST.replace("\n", "\r\n"))).service == "digits"
    assert errors_of(look("\ufeff" + (LEAST + "port: x\n").replace("\n", "\r\n"))) == [
        ("mlops.yml:3:7", "`port` must be a whole number from 1 to 65535")
    ]


def test_paths_belong_to_the_folder_of_the_file(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/mlops.yml").write_text(LEAST + "server: {hook: h.py}\n")
    (folder / "sub/h.py").touch()
    spec = load(Path("sub/mlops.yml"), None)
    assert (spec.root, spec.model.path) == (folder / "sub", folder / "sub/m")
    assert spec.server.hook == folder / "sub/h.py"


@pytest.mark.parametrize("key", ["ready: {golden: nowhere}", "server: {hook: nowhere}", "server: {constraints: .}"])
def test_a_named_file_must_be_there(look: Look, key: str) -> None:
    ((place, message),) = errors_of(look(LEAST + key))
    assert place.startswith("mlops.yml:3:")
    assert message.endswith("is not a file")


class TestOverlay:
    def test_maps_merge_and_the_rest_is_replaced(self, look: Look) -> None:
        base = LEAST + "env: {A: 1, B: 2}\nport: 1000\n"
        over = "env: {B: 3, C: 4}\nport: 2000\nmodel: {requires: [b]}\n"
        spec = spec_of(look(base.replace("path: m", "path: m, requires: [a, c]"), env="prod", prod=over))
        assert spec.env == {"A": "1", "B": "3", "C": "4"}
        assert (spec.port, spec.model.requires) == (2000, ("b",))
        assert (spec.environment, spec.project) == ("prod", "digits-prod")

    def test_it_may_be_empty_or_complete_the_base(self, look: Look) -> None:
        assert spec_of(look(LEAST, env="dev", dev="# as it is\n")).environment == "dev"
        assert spec_of(look("service: digits\n", env="dev", dev="model: {path: x}\n")).model.path.name == "x"

    def test_mistakes_of_both_files_are_shown_each_in_its_place(self, look: Look) -> None:
        seen = look(LEAST + "port: a\nuser: b\n", env="dev", dev="port: 1\nenv: {1: x}\nmodell: {}\n")
        assert errors_of(seen) == [
            ("mlops.yml:3:7", "`port` must be a whole number from 1 to 65535"),
            ("mlops.yml:4:7", "`user` must be `UID` or `UID:GID` in digits"),
            ("mlops.dev.yml:2:7", "`1` cannot name a variable"),
            ("mlops.dev.yml:3:1", "unknown key `modell`"),
        ]

    def test_a_broken_base_does_not_hide_the_overlay(self, look: Look) -> None:
        places = [place for place, _ in errors_of(look("service: [", env="dev", dev="port: x\n"))]
        assert places == ["mlops.yml:1:11", "mlops.dev.yml:1:7"]

    @pytest.mark.parametrize(("length", "fits"), [(28, True), (29, False)])
    def test_both_names_fit_into_one_label(self, look: Look, length: int, fits: bool) -> None:  # noqa: FBT001
        env = "e" * length
        seen = look(LEAST.replace("service: digits", f"service: {'s' * 32}"), env=env, **{env: "port: 1\n"})
        wrong = [("mlops.yml:1:10", f"`{'s' * 32}` is too long beside the environment `{env}`")]
        assert errors_of(seen) == ([] if fits else wrong)

    def test_it_cannot_name_another_service(self, look: Look) -> None:
        seen = look(LEAST, env="dev", dev="service: wine\n")
        assert errors_of(seen) == [("mlops.dev.yml:1:10", "this overlay names another service")]

    def test_a_missing_one_lists_those_that_are_there(self, look: Look) -> None:
        with pytest.raises(ConfigError) as caught:
            look(LEAST, env="prd", prod="", staging="", **{"Not-One": ""})
        assert caught.value.message == "there is no `mlops.prd.yml` for the environment `prd`"
        assert caught.value.hint == "there are overlays for `prod`, `staging`"

    def test_another_file_has_its_own(self, folder: Path) -> None:
        (folder / "other.yml").write_text(LEAST)
        (folder / "other.dev.yml").write_text("port: 1\n")
        (folder / "mlops.dev.yml").write_text("port: 2\n")
        assert load(Path("other.yml"), "dev").port == 1

    @pytest.mark.parametrize("name", ["../x", "a b", "-rf", "x" * 300, "A", "", "a", "b", "router", "a\n", "é"])
    def test_its_name_is_checked_before_any_file(self, look: Look, name: str) -> None:
        with pytest.raises(ConfigError, match="cannot name an environment"):
            look(LEAST, env=name)


class TestUnreadable:
    def test_missing_with_another_suffix_beside_it(self, folder: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load(Path("mlops.yml"), None)
        assert str(caught.value) == "`mlops.yml` does not exist"
        (folder / "mlops.yaml").touch()
        with pytest.raises(ConfigError) as caught:
            load(Path("mlops.yml"), None)
        assert caught.value.hint == "there is `mlops.yaml`: give it with `-f mlops.yaml`"

    def test_a_folder_and_a_fifo(self, folder: Path) -> None:
        os.mkfifo(folder / "fifo")
        for name in (".", "fifo", "/dev/zero"):
            with pytest.raises(ConfigError, match="is not a regular file"):
                load(Path(name), None)

    @pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "mlops.yml/inside"])
    def test_names_that_no_file_has(self, look: Look, name: str) -> None:
        look(LEAST)
        with pytest.raises(ConfigError):
            load(Path(name), None)
        with pytest.raises(ConfigError):
            load(Path(name), "prod")

    def test_a_read_that_fails(self) -> None:
        # The kernel offers a regular file whose first page cannot be read, even by root.
        with pytest.raises(ConfigError, match="cannot be read: input/output error"):
            load(Path("/proc/self/mem"), None)

    def test_too_large(self, look: Look) -> None:
        with pytest.raises(ConfigError, match="larger than 256 KiB"):
            look("#" * (256 << 10) + LEAST)

    @pytest.mark.parametrize(
        ("raw", "place", "message"),
        [
            (b"a: 1\nb: \xff\xfe\n", "2:4", "the file is not UTF-8"),
            (LEAST.encode("utf-16"), "1:1", "the file is not UTF-8"),
            (b"a: 1\nb: x\0y\n", "2:5", "the character U+0000 cannot stand in a configuration file"),
            (b"a: \x1b[31m\n", "1:4", "the character U+001B cannot stand in a configuration file"),
            ("a: x\u2028y\n".encode(), "1:5", "the character U+2028 cannot stand in a configuration file"),
            (b"a: \xed\xa0\x80\n", "1:4", "the file is not UTF-8"),
        ],
    )
    def test_bytes_that_are_no_text(self, look: Look, raw: bytes, place: str, message: str) -> None:
        assert errors_of(look(raw)) == [(f"mlops.yml:{place}", message)]


class TestGolden:
    @pytest.mark.parametrize(
        ("line", "place", "message"),
        [
            ("", "1:1", "`golden.jsonl` holds no request"),
            ("{", "1:1", "this line is not JSON"),
            ('{"request": NaN}', "1:1", "this line is not JSON"),
            ("service: digits", "1:1", "this line is not JSON"),
            ("[" * 100_000, "1:1", "this line is not JSON"),
            ("[]", "1:1", "`the file` must be a map with the keys `request`, `expect`, `tolerance`"),
            ("{}", "1:1", "`request` is missing"),
            ('{"request": {}, "expect": [{}]}', "1:13", "`request` must be an infer request"),
            ('{"request": {"inputs": [1]}, "expect": []}', "1:40", "`expect` must be a list, each item a map"),
            ('{"request": {"inputs": [1]}, "expects": [{}]}', "1:30", "unknown key `expects`"),
            ('{"request": {"inputs": [1]}, "expect": [{}], "tolerance": -1}', "1:59",
             "`tolerance` must be a number from 0 to 1e+300"),
        ],
    )  # fmt: skip
    def test_its_lines_are_checked_too(self, look: Look, folder: Path, line: str, place: str, message: str) -> None:
        (folder / "golden.jsonl").write_text(line + "\n")
        first, *_ = errors_of(look(LEAST + "ready: {golden: golden.jsonl}\n"))
        assert first == (f"golden.jsonl:{place}", message)

    def test_every_line_and_the_file_itself_in_one_run(self, look: Look, folder: Path) -> None:
        (folder / "golden.jsonl").write_text(GOLDEN + "{\n\n" + GOLDEN + "[1]\n")
        seen = look(LEAST + "ready: {golden: golden.jsonl}\nport: x\n")
        assert [place.rpartition(":")[0] for place, _ in errors_of(seen)] == [
            "mlops.yml:4", "golden.jsonl:2", "golden.jsonl:5",
        ]  # fmt: skip


def test_warnings_do_not_stop_anything(look: Look, folder: Path) -> None:
    seen = look(LEAST)
    assert [(str(one.mark), one.key, one.severity) for one in seen.issues] == [
        ("mlops.yml:1:10", "service", "warning"),
        ("mlops.yml:2:15", "model.path", "warning"),
    ]
    (folder / "m").touch()
    assert [one.key for one in look(LEAST).issues] == ["service"]
