"""HCL says exactly the document it was given: read back by a reader that knows nothing but what we write."""

import dataclasses
import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.render.hcl import hcl, lay_out
from mlops_deploy.render.hcl_reader import read_job
from mlops_deploy.render.nomad import document
from mlops_deploy.render.nomad_router import router_document
from mlops_deploy.spec.nomad import Affinity, Constraint, Device, NomadSpec, NomadVolume, Spread
from mlops_deploy.spec.owner import Owner
from mlops_deploy.spec.rendered import JobImage

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
# What HCL would put together of several characters it cannot say; that has a test of its own.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60).map(
    lambda text: unicodedata.normalize("NFC", text)
)
ATTRIBUTES = st.one_of(st.just("${attr.cpu.arch}"), st.just("${node.class}"), st.just("$${x}"), TEXTS)
VOLUMES = st.builds(
    NomadVolume,
    kind=st.sampled_from(["alloc", "host", "dynamic"]),
    name=WORDS,
    size=st.none() | st.integers(1, 1 << 40),
)
SECONDS = st.integers(0, 720 * 3600 * 1000).map(lambda milliseconds: milliseconds / 1000)
NOMADS = st.builds(
    NomadSpec,
    namespace=st.none() | WORDS,
    region=st.none() | WORDS,
    datacenters=st.lists(WORDS, min_size=1, max_size=3).map(tuple),
    node_pool=st.none() | WORDS,
    priority=st.none() | st.integers(1, 100),
    count=st.integers(1, 9),
    type=st.sampled_from(["service", "batch"]),
    command=st.lists(TEXTS, min_size=1, max_size=4).map(tuple),
    periodic=st.none() | TEXTS,
    provider=st.sampled_from(["nomad", "consul"]),
    volume=VOLUMES,
    pull_timeout=SECONDS,
    shutdown_delay=SECONDS,
    cores=st.none() | st.integers(1, 64),
    memory_max=st.none() | st.integers(1, 1 << 40),
    constraints=st.lists(
        st.builds(Constraint, attribute=ATTRIBUTES, value=TEXTS, operator=st.sampled_from(["=", "!=", "regexp"])),
        max_size=2,
    ).map(tuple),
    affinities=st.lists(
        st.builds(Affinity, attribute=ATTRIBUTES, value=TEXTS, weight=st.integers(-100, 100)), max_size=2
    ).map(tuple),
    spreads=st.lists(
        st.builds(Spread, attribute=ATTRIBUTES, targets=st.dictionaries(TEXTS, st.integers(0, 100), max_size=2)),
        max_size=2,
    ).map(tuple),
    devices=st.lists(st.builds(Device, name=WORDS, count=st.integers(1, 9)), max_size=2).map(tuple),
    meta=st.dictionaries(NAMES, TEXTS.filter(lambda text: "${" not in text), max_size=3),
)


@pytest.fixture
def preset(preset):
    return dataclasses.replace(preset, ready=dataclasses.replace(preset.ready, endpoint="/v2/models/{name}/ready"))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60
)
@given(nomad=NOMADS, env=st.dictionaries(NAMES, TEXTS, max_size=4))
def test_every_job_comes_back_as_it_was(spec, job, nomad, env):
    taken = {"GOLDEN", "MODEL", "PORT", "MODEL_ID", "MODEL_NAME", "MODEL_PATH"}
    env = {name: text for name, text in env.items() if name not in taken}
    made = document(dataclasses.replace(spec, nomad=nomad, env=env), *job)
    text = hcl(made)
    assert same(read_job(text), made)


def test_the_router_comes_back_as_it_was():
    router = router_document(
        Owner(service="digits"), 9000, JobImage(ref="mlops-router:1", local=True), NomadSpec(priority=60)
    )
    assert same(read_job(hcl(router)), router)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("${a}", '"$${a}"'),
        ("$${a}", '"$$${a}"'),
        ("%{a}", '"%%{a}"'),
        ("$a %b {", '"$a %b {"'),
        ('"\\', r'"\"\\"'),
        ("a\nb\r\tc", r'"a\nb\r\tc"'),
        ("\x01\x1b\x7f\x08\x0c", r'"\u0001\u001b\u007f\u0008\u000c"'),
        ("\ufeff\u2028\u200b", r'"\ufeff\u2028\u200b"'),
        ("\U0001f600 ä漢", '"\U0001f600 ä漢"'),
    ],
)
def test_a_text_is_written_as_hcl_reads_it(text, written):
    laid = lay_out({**LEAST, "Meta": {"x": text}})
    assert f'    "x" = {written}\n' in laid
    assert read_job(laid)["Meta"] == {"x": text}


def test_what_hcl_would_put_together_is_refused_with_the_way_round():
    with pytest.raises(UnusableInputError, match="put together of several, which HCL would change") as caught:
        lay_out({**LEAST, "Meta": {"x": "e\u0301"}})
    assert caught.value.hint == "`-o FILE.json` writes the form of the API, which takes them"


@pytest.mark.parametrize(("key", "value"), [("Unknown", "x"), ("AllAtOnce", True), ("Priority", "50")])
def test_what_the_templates_leave_out_or_change_is_caught(spec, job, key, value):
    made = document(spec, *job)
    assert hcl({**made, "Priority": 50})
    with pytest.raises(DeployError):
        hcl({**made, key: value})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "group {}",
        'job "a" {',
        'job "a" {\n}\nmore',
        'job "a" { type = "x" }',
        'job "a" {\n  type = "x" name = "y"\n}\n',
        'job "a" {\n  type = "x"\n  type = "y"\n}\n',
        'job "a" {\n  update {\n  }\n  update {\n  }\n}\n',
        'job "a" {\n  unknown = "x"\n}\n',
        'job "a" {\n  type = x\n}\n',
        'job "a" {\n  type = "${x}"\n}\n',
        'job "a" {\n  type = "%{x}"\n}\n',
        'job "a" {\n  type = "\\b"\n}\n',
        'job "a" {\n  type = "a\nb"\n}\n',
        'job "a" {\n  priority = 1.5\n}\n',
        'job "a" {\n  priority = "1"\n}\n',
        'job "a" {\n  meta = {\n    x = "a"\n    x = "b"\n  }\n}\n',
        'job "a" {\n  meta = {\n    x = <<EOT\nEOT\n  }\n}\n',
        'job "a" {\n  datacenters = ["a" "b"]\n}\n',
    ],
)
def test_what_we_do_not_write_is_not_read(text):
    with pytest.raises(DeployError, match="cannot be read back"):
        read_job(text)


LEAST = {"ID": "a", "Name": "a", "Type": "service", "Datacenters": ["*"], "TaskGroups": []}


def same(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
