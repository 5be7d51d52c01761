"""Nomad's own difference of two jobs, read to the last field."""

from mlops_deploy.adapters.nomad.differences import changes
from mlops_deploy.release.forecast import Change


def field(kind, name, old="", new="", notes=None):
    return {"Type": kind, "Name": name, "Old": old, "New": new, "Annotations": notes}


def node(kind, name="", fields=(), notes=None, **children):
    return {"Type": kind, "Name": name, "Fields": list(fields), "Annotations": notes, **children}


SERVICE = node(
    "Edited", "Service", Objects=[node("Edited", "Check", [field("Edited", "Path", "/", "/x"), field("None", "Type")])]
)
TASK = node(
    "Edited",
    "server",
    [field("Edited", "Env[A]", "1", "2"), field("Added", "Env[B]", "", "${x}"), field("Deleted", "Env[C]", "x")],
    ["forces create/destroy update"],
    Objects=[SERVICE],
)
JOB = node(
    "Edited",
    fields=[field("Edited", "Meta[k]", "1", "2", ["a note"])],
    Objects=None,
    TaskGroups=[
        node(
            "Edited",
            "serve",
            Objects=[node("Deleted", "Constraint", [field("Deleted", "LTarget", "${attr.arch}")])],
            Tasks=[TASK, node("Added", "pre", [field("Added", "Driver", "", "docker")]), node("None", "same")],
        )
    ],
)


def test_every_kind_of_change_at_every_depth():
    assert changes(JOB) == (
        Change(kind="edited", place="Meta[k]", old="1", new="2", note="a note"),
        Change(kind="deleted", place="group serve.Constraint"),
        Change(kind="deleted", place="group serve.Constraint.LTarget", old="${attr.arch}"),
        Change(kind="edited", place="group serve.task server", note="forces create/destroy update"),
        Change(kind="edited", place="group serve.task server.Env[A]", old="1", new="2"),
        Change(kind="added", place="group serve.task server.Env[B]", new="${x}"),
        Change(kind="deleted", place="group serve.task server.Env[C]", old="x"),
        Change(kind="edited", place="group serve.task server.Service.Check.Path", old="/", new="/x"),
        Change(kind="added", place="group serve.task pre"),
        Change(kind="added", place="group serve.task pre.Driver", new="docker"),
    )


def test_no_difference_is_no_change():
    assert changes(node("None", fields=[field("None", "Type", "service", "service")], TaskGroups=None)) == ()
