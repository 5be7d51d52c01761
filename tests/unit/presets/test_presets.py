from pathlib import Path

import pytest

from mlops_deploy.config.preset import find_preset, load_preset
from mlops_deploy.errors import ConfigError, UnusableInputError
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.preset import fill, fill_preset, filling
from mlops_deploy.spec.refs import ContentId
from mlops_server.formats import FORMATS
from mlops_server.provides import PROTOCOLS

SHAPES = Path(__file__).parent / "shapes"
CONTENT = ContentId("ab" * 32)
MINIMAL = "doc: x\nimage: x:1\nports: {http: 8080}\nready: {path: /ready}\n"


def filled(path):
    preset = load_preset(path)
    return fill_preset(preset, filling(preset, name="digits", content=CONTENT, path=f"/model/v/{CONTENT}"))


def refusal(tmp_path, text):
    path = tmp_path / "bad.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_preset(path)
    return "\n".join([str(caught.value), *caught.value.detail])


@pytest.mark.parametrize("path", [*SHAPES.glob("*.yml"), *(IMAGES / "presets").glob("*.yml")], ids=lambda p: p.stem)
def test_every_known_kind_of_server_fits_the_shape(path):
    preset = filled(path)
    assert preset.name == path.stem
    assert "{" not in " ".join((*preset.command, *preset.args, *preset.env.values(), preset.ready.path))


@pytest.mark.parametrize("path", list((IMAGES / "presets").glob("*.yml")), ids=lambda p: p.stem)
def test_every_shipped_server_can_be_released(path):
    preset = filled(path)
    assert preset.ready.endpoint is not None
    assert CONTENT.short not in preset.ready.endpoint, "a router asks whichever version is there"
    assert preset.allow_paths


def test_placeholders_mean_the_model():
    mlserver = filled(SHAPES / "mlserver-sklearn.yml")
    assert mlserver.env["MLSERVER_MODEL_URI"] == f"/model/v/{CONTENT}"
    assert mlserver.ready.path == "/v2/models/digits/versions/abababababab/ready"
    assert filled(SHAPES / "vllm.yml").ready.json == {"data[].id": "digits@abababababab"}
    assert filled(SHAPES / "triton.yml").layout == "digits/1"


def test_braces_of_other_languages_are_written_twice():
    assert filled(SHAPES / "triton.yml").files["config.pbtxt"] == (
        f'name: "digits"\nparameters {{ key: "content" value {{ string_value: "{CONTENT}" }} }}\n'
    )
    assert filled(SHAPES / "vllm.yml").metrics.errors == 'http_requests_total{status="5xx"}'


def test_a_value_is_not_looked_into_again():
    assert fill("{name} {{name}}", {"name": "{path}", "path": "x"}) == "{path} {name}"


@pytest.mark.parametrize("text", ["{nme}", "{", "}", "{}", "{name", "{name!r}", "{path.parent}", "{{{x}}}"])
def test_what_is_no_placeholder_is_refused(text):
    with pytest.raises(UnusableInputError, match="no placeholder"):
        fill(text, {"name": "x"})


def test_the_default_server_keeps_what_its_preset_says():
    preset = find_preset("kserve-sklearn", IMAGES / "presets")
    assert preset.formats == FORMATS
    assert preset.protocol == PROTOCOLS
    assert preset.build is not None
    assert (IMAGES / preset.build / "Dockerfile").is_file()
    assert not [path for path in preset.allow_paths if "repository" in path]


def test_every_mistake_of_a_preset_is_told_at_once(tmp_path):
    told = refusal(tmp_path, MINIMAL + 'args: ["{nme}"]\nenv: {A: "{foo}"}\nreadyy: 1\nprotocol: [v3]\nuid: -1\n')
    assert told.startswith("5 mistakes")
    assert "did you mean `ready`?" in told
    assert "`{foo}` is no placeholder" in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "build: server\n", "either `image` or `build`"),
        (MINIMAL.replace("image: x:1\n", ""), "either `image` or `build`"),
        (MINIMAL.replace("/ready", "ready"), "`ready.path` must be"),
        (MINIMAL + "layout: ../x\n", "`layout` must be"),
        (MINIMAL + "files: {/etc/passwd: x}\n", "/etc/passwd` must be"),
        (MINIMAL + "files: {a/../../b: x}\n", "must be a path"),
        (MINIMAL.replace("{http: 8080}", "{grpc: 8080}"), "`ports.http` is missing"),
        ("", "must be a map"),
        ("[]", "must be"),
        ("x: [", ""),
    ],
)
def test_a_wrong_preset_is_refused(tmp_path, text, expected):
    assert expected in refusal(tmp_path, text)


def test_an_unknown_preset_gets_a_suggestion():
    with pytest.raises(UnusableInputError) as caught:
        find_preset("kserve-sklern", IMAGES / "presets")
    assert caught.value.hint == "did you mean `kserve-sklearn`?"
    with pytest.raises(UnusableInputError) as caught:
        find_preset("../presets/kserve-sklearn", SHAPES)
    assert "there is no preset" in str(caught.value)
