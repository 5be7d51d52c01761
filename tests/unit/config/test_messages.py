"""What each mistake says, to the byte."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_deploy.cli import main
from mlops_deploy.config.load import Examined, load
from mlops_deploy.errors import ConfigError

Look = Callable[..., Examined]

BASE = "service: digits\nmodel: {path: m}\n"
NAME = "lower-case letters, digits and `-`, a letter first, at most 32"
QUOTE = "some YAML readers take this for another kind of value: put it in quotes"
DURATION = "a duration such as `30s`, `2m` or `1h30m`"
SIZE = "a size such as `512Mi`, `2GiB` or `1.5G`, from 6Mi to 1024Ti"
IMAGE = "an image reference such as `NAME:TAG` or `NAME@sha256:…`"
TOP = (
    "`service`, `model`, `preset`, `server`, `target`, `port`, `env`, `resources`, `user`, `ready`, `release`, "
    "`compat`, `bootstrap`, `registry`, `nomad`, `kubernetes`"
)
LOWER, VOLUME = "lower-case letters, digits and `-`", "kubernetes.volume"

# What is added below BASE (which has two lines), and what is said: place, message, fix.
ONE_MISTAKE = [
    ("kubernetes: {volume: {kind: pvc}}", "3:29", f"`{VOLUME}.kind` must be one of `emptyDir`, `image`", "found `pvc`"),
    ("kubernetes: {namespace: A_b}", "3:25", f"`kubernetes.namespace` must be {LOWER}, at most 63", "found `A_b`"),
    ("kubernetes: {volume: {sise: 1Gi}}", "3:23", "unknown key `sise`", f"in `{VOLUME}`; did you mean `size`?"),
    ("port: 0", "3:7", "`port` must be a whole number from 1 to 65535", "found the number `0`"),
    ("port: 65536", "3:7", "`port` must be a whole number from 1 to 65535", "found the number `65536`"),
    ("port: -1", "3:7", "`port` must be a whole number from 1 to 65535", "found the number `-1`"),
    ("port: 80.5", "3:7", "`port` must be a whole number from 1 to 65535", "found the number `80.5`"),
    ("port: '8080'", "3:7", "`port` must be a whole number from 1 to 65535", "remove the quotes: `8080`"),
    ("port: 0o17", "3:7", "`port` must be a whole number from 1 to 65535", "write it in plain decimal digits"),
    ("port: 1_000", "3:7", "`port` must be a whole number from 1 to 65535", "write it in plain decimal digits"),
    ("port: 0x1F", "3:7", "`port` must be a whole number from 1 to 65535", "write it in plain decimal digits"),
    ("port: true", "3:7", "`port` must be a whole number from 1 to 65535", "found the truth value `true`"),
    ("port:", "3:6", "`port` must be a whole number from 1 to 65535", "found no value"),
    ("port: ~", "3:7", "`port` must be a whole number from 1 to 65535", "found no value"),
    ("port: [1]", "3:7", "`port` must be a whole number from 1 to 65535", "found a list"),
    ("port: {a: 1}", "3:7", "`port` must be a whole number from 1 to 65535", "found a map"),
    ("port: " + "9" * 5000, "3:7", "`port` must be a whole number from 1 to 65535", f"found the number `{'9' * 60}…`"),
    ("preset: no", "3:9", "`preset` must be the name of a preset such as `kserve-sklearn`", QUOTE),
    ("preset: 2024-01-01", "3:9", "`preset` must be the name of a preset such as `kserve-sklearn`", QUOTE),
    ("preset: ../x", "3:9", "`preset` must be the name of a preset such as `kserve-sklearn`", "found `../x`"),
    ("preset: kserve-sklaern", "3:9", "there is no preset `kserve-sklaern`", "did you mean `kserve-sklearn`?"),
    ("bootstrap: push", "3:12", "`bootstrap` must be one of `copy`, `pull`", "found `push`"),
    (
        "registry: {insecure: yes}",
        "3:22",
        "`registry.insecure` must be `true` or `false`",
        "found `yes`",
    ),
    (
        "registry: {credentials: ../config.json}",
        "3:25",
        "`registry.credentials` must be an absolute path on the node, or a name on Kubernetes",
        "found `../config.json`",
    ),
    (
        "registry: {proxy: proxy.example.com:3128}",
        "3:19",
        "`registry.proxy` must be a URL such as `http://proxy.example.com:3128`, without user and password",
        "found `proxy.example.com:3128`",
    ),
    (
        "registry: {proxy: socks5://proxy.example.com}",
        "3:19",
        "`registry.proxy` must be a URL such as `http://proxy.example.com:3128`, without user and password",
        "found `socks5://proxy.example.com`",
    ),
    (
        "registry: {proxy: http://proxy.example.com:65536}",
        "3:19",
        "`registry.proxy` must be a URL such as `http://proxy.example.com:3128`, without user and password",
        "found `http://proxy.example.com:65536`",
    ),
    (
        "registry: {proxy: 'http://ann:c4nary@proxy.example.com'}",
        "3:19",
        "`registry.proxy` must be a URL such as `http://proxy.example.com:3128`, without user and password",
        "it would stand in the job's files: let the proxy know the nodes by their addresses",
    ),
    (
        "registry: {no_proxy: http://ann@x}",
        "3:22",
        "`registry.no_proxy` must be names, addresses or networks, separated by commas",
        "found `http://ann@x`",
    ),
    ("target: swarm", "3:9", "`target` must be one of `docker`, `nomad`, `kubernetes`, `process`", "found `swarm`"),
    ("env: [A=b]", "3:6", "`env` must be a map of names and values", "write `NAME: value`"),
    ("env: text", "3:6", "`env` must be a map of names and values", "found `text`"),
    ("env: {A: }", "3:10", "`env.A` must be one value", 'write "" for an empty one'),
    ("env: {A: [b]}", "3:10", "`env.A` must be one value", "found a list"),
    ("env: {1A: b}", "3:7", "`1A` cannot name a variable", "use letters, digits and `_`, no digit first"),
    ("env: {A=B: b}", "3:7", "`A=B` cannot name a variable", "use letters, digits and `_`, no digit first"),
    ("env: {MODEL_PATH: b}", "3:7", "`MODEL_PATH` is set by the job itself", "remove it, or choose another name"),
    ("env: {GOLDEN: b}", "3:7", "`GOLDEN` is set by the job itself", "remove it, or choose another name"),
    ('env: {A: "a\\0b"}', "3:10", "`env.A` must be one value", "a NUL cannot be passed to a program"),
    ("env: {A: " + "x" * 131070 + "}", "3:10", "`env.A` must be at most 128 KiB",
     "it has 131,073 bytes, and Linux takes 128 KiB per variable with its name: put it in a file of the model"),
    ("env: {A: " + "x" * 200_000 + "}", "3:10", "`env.A` must be at most 128 KiB",
     "it has 200,003 bytes, and Linux takes 128 KiB per variable with its name: put it in a file of the model"),
    ("resources: {cpu: 0}", "3:18", "`resources.cpu` must be a number from 0.01 to 4096", "found the number `0`"),
    ("resources: {cpu: .inf}", "3:18", "`resources.cpu` must be a number from 0.01 to 4096",
     "write it in plain decimal digits"),
    ("resources: {cpu: .nan}", "3:18", "`resources.cpu` must be a number from 0.01 to 4096",
     "write it in plain decimal digits"),
    ("resources: {cpu: 1e999}", "3:18", "`resources.cpu` must be a number from 0.01 to 4096",
     "found the number `1e999`"),
    ("resources: {cpu: 500m}", "3:18", "`resources.cpu` must be a number from 0.01 to 4096", "found `500m`"),
    ("resources: {memory: 512m}", "3:21", f"`resources.memory` must be {SIZE}", "found `512m`"),
    ("resources: {memory: 512}", "3:21", f"`resources.memory` must be {SIZE}", "`512` has no unit"),
    ("resources: {memory: 1Ki}", "3:21", f"`resources.memory` must be {SIZE}", "found `1Ki`"),
    ("resources: {memory: -1Gi}", "3:21", f"`resources.memory` must be {SIZE}", "found `-1Gi`"),
    ("user: root", "3:7", "`user` must be `UID` or `UID:GID` in digits", "found `root`"),
    ("user: -1", "3:7", "`user` must be `UID` or `UID:GID` in digits", "found the number `-1`"),
    ("ready: {deadline: 30}", "3:19", f"`ready.deadline` must be {DURATION}, from 1s to 720h", "`30` has no unit"),
    ("ready: {deadline: 0s}", "3:19", f"`ready.deadline` must be {DURATION}, from 1s to 720h", "found `0s`"),
    ("ready: {deadline: 9999h}", "3:19", f"`ready.deadline` must be {DURATION}, from 1s to 720h", "found `9999h`"),
    ("ready: {deadline: 30 s}", "3:19", f"`ready.deadline` must be {DURATION}, from 1s to 720h", "found `30 s`"),
    ("ready: {golden: http://x/y}", "3:17",
     "`ready.golden` must be the path of a file of golden requests that is there", "found `http://x/y`"),
    ("release: {strategy: yolo}", "3:21",
     "`release.strategy` must be one of `recreate`, `rolling`, `bluegreen`, `canary`, `ab`, `shadow`, `staging`",
     "found `yolo`"),
    ("release: {bake: -1s}", "3:17", f"`release.bake` must be {DURATION}, at most 720h", "found `-1s`"),
    ("server: {image: Upper}", "3:17", f"`server.image` must be {IMAGE}", "found `Upper`"),
    ("server: {image: 'a@sha256:00'}", "3:17", f"`server.image` must be {IMAGE}", "found text in quotes"),
    ("server: {base: -rf}", "3:16", f"`server.base` must be {IMAGE}", "found `-rf`"),
    ("server: []", "3:9",
     "`server` must be a map with the keys `image`, `base`, `hook`, `constraints`", "found a list"),
    ("image_name: x", "3:1", "unknown key `image_name`", "did you mean `server.image`?"),
    ("environment: {}", "3:1", "unknown key `environment`", "did you mean `env`?"),
    ("ports: [80]", "3:1", "unknown key `ports`", "did you mean `port`?"),
    ("mem_limit: 1g", "3:1", "unknown key `mem_limit`", "did you mean `resources.memory`?"),
    ("healthcheck: {}", "3:1", "unknown key `healthcheck`", "did you mean `ready`?"),
    ("livenessProbe: {}", "3:1", "unknown key `livenessProbe`", "did you mean `ready`?"),
    ("runAsUser: 1", "3:1", "unknown key `runAsUser`", "did you mean `user`?"),
    ("strategy: canary", "3:1", "unknown key `strategy`", "did you mean `release.strategy`?"),
    ("zzz: 1", "3:1", "unknown key `zzz`", f"known keys: {TOP}"),
    ("on: 1", "3:1", "unknown key `on`", f"known keys: {TOP}"),
    ("8080: 1", "3:1", "unknown key `8080`", f"known keys: {TOP}"),
    ("ready: {goldne: x}", "3:9", "unknown key `goldne`", "in `ready`; did you mean `golden`?"),
    ("port: 1\nport: 2", "4:1", "`port` is given twice", "first given in line 3; keep one of them"),
    ("x-a: &a 1\nport: *a", "4:7", "the alias `*a` is not supported", "write the value out"),
    ("preset: !!python/object:os.system kserve-sklearn", "3:9",
     "the tag `tag:yaml.org,2002:python/object:os.system` is not supported", "write the plain value"),
    ("port:\n\t- 1", "4:1", "a tab cannot indent", "use blanks"),
    ("port: @x", "3:7", "a value cannot start with `@`", "put the value in quotes"),
    ("port: a: b", "3:8", "a `:` is not expected here", "quote the value, or check the indentation"),
    ("port: 'x", "3:9", "the text ends inside quotes", "close the quotes"),
    ('"\\e[31m": 1', "3:1", "unknown key `�[31m`", f"known keys: {TOP}"),
    ("port: [1,\n", "3:10", "a value is expected here", "put the value in quotes if it is meant as text"),
    ("env: {A: 1", "3:11", "a map is not closed", "a `,` or `}` is missing; it began in line 3"),
    ("just text", "3:1", "this line is no `key: value`", "a `:` and a blank must follow the key"),
    ("---\nport: 1", "3:1", "a second document starts here", "keep one document per file; `---` separates documents"),
    ("? [a]\n: 1", "3:3", "a key must be one word, not a list or map", "write `key: value`"),
]  # fmt: skip


@pytest.mark.parametrize(("added", "place", "message", "hint"), ONE_MISTAKE, ids=[case[0][:40] for case in ONE_MISTAKE])
def test_one_mistake_is_told_exactly(look: Look, added: str, place: str, message: str, hint: str) -> None:
    (issue,) = (one for one in look(BASE + added).issues if one.severity == "error")
    assert (str(issue.mark), issue.message, issue.hint) == (f"mlops.yml:{place}", message, hint)


WHOLE_FILES = [
    ("", "1:1", "`mlops.yml` must be a map with `service` and `model`", "found no value"),
    ("# nothing\n", "1:1", "`mlops.yml` must be a map with `service` and `model`", "found no value"),
    ("- a\n", "1:1", "`mlops.yml` must be a map with `service` and `model`", "found a list"),
    ("text\n", "1:1", "`mlops.yml` must be a map with `service` and `model`", "found `text`"),
    ("service: digits\n", "1:1", "`model` is missing", "add `model: {path: model.joblib}`"),
    ("model: {path: m}\n", "1:1", "`service` is missing", "add `service: digits`"),
    ("service: digits\nmodel: {}\n", "2:8", "`model.path` is missing", "add `path: model.joblib`"),
    ("service: digits\nmodel: m\n", "2:8",
     "`model` must be a map with the keys `path`, `sha256`, `name`, `requires`, `licence`, `signature`", "found `m`"),
    ("service: Digits\nmodel: {path: m}\n", "1:10", f"`service` must be {NAME}", "found `Digits`"),
    ("service: ../x\nmodel: {path: m}\n", "1:10", f"`service` must be {NAME}", "found `../x`"),
    ("service: a b\nmodel: {path: m}\n", "1:10", f"`service` must be {NAME}", "found `a b`"),
    (f"service: {'a' * 33}\nmodel: {{path: m}}\n", "1:10", f"`service` must be {NAME}", "found 33 characters"),
    ("service: on\nmodel: {path: m}\n", "1:10", f"`service` must be {NAME}", QUOTE),
    ("service: v\nmodel: {path: m}\n", "1:10", "`v` cannot name the model too",
     "give the model another name at `model.name`"),
    ("service: digits\nmodel: {path: s3://bucket/m}\n", "2:15",
     "`model.path` must be the path of the model, a file or a folder on this machine, or an `https://` URL", "found `s3://bucket/m`"),
    ("service: digits\nmodel: {path: m, name: v}\n", "2:24",
     "`model.name` must be lower-case letters, digits, `.`, `_` and `-`, at most 63, not `v`", "found `v`"),
    ("service: digits\nmodel: {path: m, requires: [1.0]}\n", "2:29",
     "`model.requires[0]` must be a requirement such as `scikit-learn==1.7.2`", QUOTE),
    ("service: digits\nmodel: {path: m, requires: ['a; b']}\n", "2:29",
     "`model.requires[0]` must be a requirement such as `scikit-learn==1.7.2`", "found text in quotes"),
    ("service: digits\nmodel: {path: m, signature: {a: no}}\n", "2:33",
     "`model.signature.a` must be a JSON value", QUOTE),
    ("service: digits\nmodel: {path: m, signature: {a: 1e999}}\n", "2:33",
     "`model.signature.a` must be a finite number", "found the number `1e999`"),
    ("service: digits\nmodel: {path: m, signature: {1: a}}\n", "2:30", "the key `1` must be text", "put it in quotes"),
    ("[" * 100_000, "1:34", "nested deeper than 32 levels", "no key of this file is that deep"),
    ("{a: " * 50_000, "1:133", "nested deeper than 32 levels", "no key of this file is that deep"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "place", "message", "hint"), WHOLE_FILES, ids=[case[0][:40] for case in WHOLE_FILES])
def test_a_whole_file(look: Look, text: str, place: str, message: str, hint: str) -> None:
    (issue,) = (one for one in look(text).issues if one.severity == "error")
    assert (str(issue.mark), issue.message) == (f"mlops.yml:{place}", message)
    assert issue.hint.partition(";")[0] == hint


SCREENS = {
    "unknown-key": "service: digits\n# the model\nmodel:\n  pathh: ./model.onnx\n",
    "several": "servise: digits\nmodel: {path: m}\nport: eighty\nenv: {PORT: 1}\n",
    "one-section": f"{BASE}release: {{bake: 1, drain: 2}}\n",
    "wide-characters": f'{BASE}env: {{A: "数字🙂", 1B: x}}\n',
    "long-line": f"{BASE}env: {{A: {'x' * 70_000}, 1B: {'y' * 70_000}}}\n",
    "terminal-escape": f'{BASE}target: "\\e[31mred"\nuser: "\u200b"\n',
    "proxy-password": f"{BASE}registry:\n  proxy: http://ann:c4nary@proxy.example.com # ours\n  insecure: maybe\n",
    "syntax": f"{BASE}env:\n  A: 1\n B: 2\n",
}


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str], golden: Callable[[str, str], None]
) -> None:
    (folder / "mlops.yml").write_text(SCREENS[name], encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(Path("mlops.yml"), None)
    main._show(caught.value)
    golden(f"{name}.txt", capsys.readouterr().err)


@pytest.mark.parametrize(
    "value",
    ["http://ann:c4nary@p.test:1", "'http://ann:c4nary@p.test'", '"http://ann:c4nary\\x40p.test"', "c4nary@",
     "|\n  socks5://ann:c4nary@p.test"],
)  # fmt: skip
def test_a_password_of_a_proxy_is_refused_and_not_shown(folder: Path, value: str) -> None:
    (folder / "mlops.yml").write_text(
        f"{BASE}registry: {{proxy: {value}}}\n" if "|" not in value else f"{BASE}registry:\n proxy: {value}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(Path("mlops.yml"), None)
    told = "\n".join((caught.value.message, *caught.value.detail))
    assert "`registry.proxy` must be a URL" in told
    assert "c4nary" not in told


@pytest.mark.parametrize(
    "wrong",
    [
        "registry: [http://ann:c4n@ry@p.test]",
        "registry: {proxies: http://ann:c4n@ry@p.test}",
        "registry: {proxy: http://ann:c4n@ry@p.test, proxies: 1}",
        "model: {name: http://ann:c4n@ry@p.test}",
        "http://ann:c4n@ry@p.test: 1",
    ],
)
def test_no_password_of_a_url_is_shown_wherever_it_stands(folder: Path, wrong: str) -> None:
    (folder / "mlops.yml").write_text(f"service: digits\n{wrong}\n")
    with pytest.raises(ConfigError) as caught:
        load(Path("mlops.yml"), None)
    told = "\n".join((caught.value.message, *caught.value.detail))
    assert "p.test" in told
    assert "c4n" not in told
    assert "ry@" not in told
