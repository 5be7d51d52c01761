"""What the section `nomad` says, and what is said about it."""

import pytest

from mlops_deploy.config.load import load
from mlops_deploy.spec.nomad import Affinity, Constraint, Device, NomadSpec, NomadVolume, Spread
from tests.unit.config.conftest import GOOD

# What is added below GOOD (which has two lines), and what is said: place, message, fix.
MISTAKES = [
    (
        "nomad: {type: batch}",
        "3:15",
        "a `batch` job needs `nomad.command`",
        "name a program of the server image and its arguments",
    ),
    ("nomad: {command: [a]}", "3:18", "`nomad.command` is for `type: batch`", "a service runs what its preset says"),
    ("nomad: {periodic: '@daily'}", "3:19", "`nomad.periodic` is for `type: batch`", "a service runs all the time"),
    ("nomad: {periodic: daily}", "3:19", "`nomad.periodic` must be a cron line or `@daily`", "found `daily`"),
    (
        "nomad: {volume: {kind: host}}",
        "3:24",
        "a `host` volume needs `nomad.volume.name`",
        "name one that the clients have",
    ),
    ("nomad: {volume: {name: m}}", "3:24", "`nomad.volume.name` is for `kind: host`", "`kind: alloc` needs no name"),
    (
        "nomad: {volume: {kind: csi}}",
        "3:24",
        "`nomad.volume.kind` must be one of `alloc`, `host`, `dynamic`",
        "found `csi`",
    ),
    ("nomad: {volumes: {}}", "3:9", "unknown key `volumes`", "in `nomad`; did you mean `volume`?"),
    (
        "nomad: {datacenters: []}",
        "3:22",
        "`nomad.datacenters` must be a list, each item a datacenter, in which `*` stands for anything",
        "found a list",
    ),
    (
        "nomad: {priority: 101}",
        "3:19",
        "`nomad.priority` must be a whole number from 1 to 100",
        "found the number `101`",
    ),
    ("nomad: {meta: {a b: c}}", "3:16", "`a b` cannot be a name here", "use letters, digits, `_`, `.`, `-`"),
    (
        'nomad: {meta: {a: "one\\ntwo"}}',
        "3:19",
        "`nomad.meta.a` must be one line of text",
        "it has a line break, or another character that cannot be seen: remove it",
    ),
    (
        "nomad: {type: batch, command: [a], periodic: 61 * * * *}",
        "3:46",
        "`nomad.periodic` must be a cron line or `@daily`",
        "the minutes are `*`, or 0 to 59, not `61`",
    ),
    (
        "nomad: {meta: {io.mlops-deploy.key: c}}",
        "3:16",
        "`io.mlops-deploy.key` cannot be a name here",
        "use letters, digits, `_`, `.`, `-`",
    ),
    (
        "nomad: {affinities: [{attribute: a, value: b, weight: 0}]}",
        "3:21",
        "an affinity of the weight 0 says nothing",
        "avoid with -1 to -100",
    ),
    ("nomad: {affinities: [{attribute: a}]}", "3:22", "`nomad.affinities[0].value` is missing", "add `value: fast`"),
    (
        "nomad: {constraints: [{attribute: a, operator: is_set, value: b}]}",
        "3:22",
        "a constraint with the operator `is_set` takes no `value`",
        "remove it",
    ),
    (
        "nomad: {spreads: [{attribute: a, targets: [{value: b, percent: 60}, {value: c, percent: 60}]}]}",
        "3:18",
        "the percentages of a spread are more than 100 together",
        "leave some for the others",
    ),
    (
        "resources: {memory: 2Gi}\nnomad: {memory_max: 1Gi}",
        "4:21",
        "`nomad.memory_max` is less than `resources.memory`",
        "it is the greater of both",
    ),
    (
        "nomad: {constraints: [{value: a}]}",
        "3:22",
        "a constraint with the operator `=` needs an `attribute`",
        "name one",
    ),
    (
        "nomad: {constraints: [{attribute: a}]}",
        "3:22",
        "a constraint with the operator `=` needs a `value`",
        "say what it is compared with",
    ),
    ("nomad: {devices: [{count: 1}]}", "3:19", "`nomad.devices[0].name` is missing", "add `name: nvidia/gpu`"),
]

WHOLE = """
nomad:
  namespace: predictions
  region: eu
  datacenters: [dc1, "dc-*"]
  node_pool: gpu
  priority: 70
  count: 2
  type: batch
  command: [python, -c, "print(1)", 1.10]
  periodic: "*/5 * * * *"
  provider: consul
  volume: {kind: host, name: models, size: 2Gi}
  router_image: registry.example.com/ml/router:1.0
  pull_timeout: 10m
  shutdown_delay: 0s
  cores: 2
  memory_max: 2Gi
  constraints:
    - {attribute: "${attr.cpu.arch}", operator: "!=", value: arm64}
    - {operator: distinct_hosts}
    - {attribute: "${meta.rack}", operator: is_set}
    - {attribute: "${meta.rack}", operator: distinct_property, value: 2}
  affinities: [{attribute: "${node.class}", value: slow, weight: -50}]
  spreads: [{attribute: "${node.datacenter}", targets: [{value: dc1, percent: 70}, {value: dc2, percent: 30}]}]
  devices: [{name: nvidia/gpu/1080, count: 2}]
  meta: {team: forecasting, "a.b-c": "${x} %{y} \\" \n", n: 1.10}
"""


def test_every_key_is_taken_as_it_is_meant(folder):
    (folder / "mlops.yml").write_text(GOOD + WHOLE)
    assert load(folder / "mlops.yml", None).nomad == NomadSpec(
        namespace="predictions",
        region="eu",
        datacenters=("dc1", "dc-*"),
        node_pool="gpu",
        priority=70,
        count=2,
        type="batch",
        command=("python", "-c", "print(1)", "1.10"),
        periodic="*/5 * * * *",
        provider="consul",
        volume=NomadVolume(kind="host", name="models", size=2 << 30),
        router_image="registry.example.com/ml/router:1.0",
        pull_timeout=600.0,
        shutdown_delay=0.0,
        cores=2,
        memory_max=2 << 30,
        constraints=(
            Constraint(attribute="${attr.cpu.arch}", operator="!=", value="arm64"),
            Constraint(attribute="", operator="distinct_hosts"),
            Constraint(attribute="${meta.rack}", operator="is_set"),
            Constraint(attribute="${meta.rack}", operator="distinct_property", value="2"),
        ),
        affinities=(Affinity(attribute="${node.class}", value="slow", weight=-50),),
        spreads=(Spread(attribute="${node.datacenter}", targets={"dc1": 70, "dc2": 30}),),
        devices=(Device(name="nvidia/gpu/1080", count=2),),
        meta={"team": "forecasting", "a.b-c": '${x} %{y} " ', "n": "1.10"},
    )


def test_without_the_section_the_cluster_and_the_environment_decide(folder):
    (folder / "mlops.yml").write_text(GOOD)
    assert load(folder / "mlops.yml", None).nomad == NomadSpec()


def test_an_environment_may_name_its_namespace(folder):
    (folder / "mlops.yml").write_text(GOOD + "nomad: {priority: 60}")
    (folder / "mlops.live.yml").write_text("nomad: {namespace: live}")
    assert load(folder / "mlops.yml", "live").nomad == NomadSpec(namespace="live", priority=60)


@pytest.mark.parametrize(("added", "place", "message", "hint"), MISTAKES, ids=[case[0][:60] for case in MISTAKES])
def test_one_mistake_is_told_exactly(look, added, place, message, hint):
    (issue,) = (one for one in look(GOOD + added).issues if one.severity == "error")
    assert (str(issue.mark), issue.message, issue.hint) == (f"mlops.yml:{place}", message, hint)
