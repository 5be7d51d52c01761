"""How a status reads: for people, as JSON, and as changes where nothing can be refreshed in place."""

import json
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from mlops_deploy.api.service import Service
from mlops_deploy.cli.place import Place
from mlops_deploy.cli.status_changes import change_lines
from mlops_deploy.cli.status_document import status_document
from mlops_deploy.cli.status_text import span, status_lines
from mlops_deploy.errors import UnreachableError
from mlops_deploy.release.journal import Began, HeldBack, Turned, standing
from mlops_deploy.release.lease import Holder, Lease
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import Cause, End, Freeze, Route
from tests.fakes.command import run
from tests.fakes.looks import NOW, ONE, RELEASE, TWO, first_live, observed, opened, router, status, view

HERE = Place(file="mlops.yml", environment=None, target=None)
HOLDER = Lease(token=4, ttl=60.0, holder=Holder(name="anna@build7", nonce="1", url="https://ci/7"), release=RELEASE)
AWAITING = standing([opened(), Began(at=NOW - 45, index=1)])


def service(environment=None):
    spec = SimpleNamespace(service="digits", environment=environment, project="digits")
    return Service(
        spec=spec, target_name="docker", target=None, supply=None, router_config=None, clock=None, holder=None
    )


def lines(found, environment=None):
    return status_lines(service(environment), found, NOW)


def document(found, place=HERE):
    made = status_document(service(), place, found)
    json.dumps(made)
    return made


def local(seconds):
    return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M}"


def test_a_service_at_rest():
    assert lines(status()) == [
        f"digits (docker)   live: b  digits@222222222222  since {local(NOW - 3600)} ({RELEASE})",
        "├─ a  parked hot  digits@111111111111         0 in flight  router: UP (L7OK 200)",
        "└─ b  live 100 %  digits@222222222222         37 in flight  router: UP (L7OK 200)",
        "router:  up, all traffic to slot b (generation 7); 1,234 requests, 0 failed since it started",
        "lease:   free",
        "freeze:  none",
    ]


def test_nothing_released_yet():
    assert lines(None, "prod") == [
        "digits @ prod (docker): nothing runs; it has not been released yet, or was taken down"
    ]


NATIVE = RollingView(
    state="settled", version=3, content="2" * 64, deployment="d" * 36, servers=("a" * 36, "b" * 36), wanted=1
)


def test_a_service_without_slots():
    assert lines(NATIVE) == [
        "digits (docker)   settled: job `digits`, version 3, released with `--native`",
        "├─ content     222222222222",
        "├─ deployment  dddddddd",
        "└─ healthy     server `aaaaaaaa`, server `bbbbbbbb`",
        "`nomad job status digits` shows all of it, `nomad job history digits` what was before",
    ]
    made = document(NATIVE)
    assert made["next"] == ["mlops-deploy logs"]
    assert made["native"]["healthy"] == ["a" * 36, "b" * 36]
    assert (made["native"]["job"], made["native"]["content_id"], made["native"]["cause"]) == ("digits", "2" * 64, None)
    assert made | {"native": None, "next": []} == document(None) | {"next": []}


def test_a_server_without_slots_that_failed_says_why_with_its_last_lines():
    cause = Cause(kind="crash", message="the server ended with 1", lines=("one", "two"))
    found = replace(NATIVE, state="failed", servers=(), content=None, deployment=None, cause=cause)
    assert lines(found)[1:-1] == [
        "├─ content     not known: the job was edited",
        "├─ deployment  none, or forgotten",
        "└─ healthy     no server of this version",
        "      the server ended with 1",
        "      | one",
        "      | two",
    ]
    assert document(found)["native"]["cause"]["lines"] == ["one", "two"]
    looks = [None, NATIVE, NATIVE, found]
    changes = list(change_lines(service(), iter(looks)))
    assert changes[1:6] == lines(NATIVE)
    assert [line[10:] for line in changes[6:]] == ["job: version 3, 0 healthy, failed: the server ended with 1"]


def test_a_slot_that_failed_says_why_with_its_last_lines():
    cause = Cause(kind="bootstrap", message="the bootstrap ended with 66", lines=[f"line {n}" for n in range(20)])
    found = lines(status(first_live(b=view("b", "failed", TWO, cause=cause))))
    assert found[2].startswith("└─ b  failed      digits@222222222222")
    assert found[3] == "      the bootstrap ended with 66"
    assert found[4:12] == [f"      | line {n}" for n in range(12, 20)]


def test_a_live_slot_that_stopped_says_so_and_how_while_the_router_still_calls_it_up():
    end = End(message="the server was stopped from outside, and ended with 137", lines=["last words"])
    seen = status(first_live(a=view("a", "stopped", ONE, ended=end)))
    found = lines(seen)
    assert found[1].startswith("├─ a  live 100 %  digits@111111111111")
    assert found[1].endswith("  stopped")
    assert found[2:4] == ["│     the server was stopped from outside, and ended with 137", "│     | last words"]
    said = document(seen)["slots"]["a"]
    assert (said["state"], said["cause"]) == ("stopped", None)
    assert said["ended"] == {"message": end.message, "lines": end.lines}


def test_a_release_that_nobody_carries_on():
    found = lines(status(first_live(b=view("b", "preparing", TWO)), open=AWAITING))
    assert found[-4:] == [
        f"release: {RELEASE} has not ended, and nobody runs it; traffic stays as committed",
        f"         bluegreen by anna@build7 since {local(NOW - 60)}",
        "         step 2 of 7: wait until slot b is ready, at most 120 s",
        f"         deadline {local(NOW + 75)} (in 75 s)",
    ]
    assert "preparing" in found[2]


def test_a_release_that_waits_and_one_that_turns_back():
    held = standing([opened(), HeldBack(at=NOW, index=3, until=NOW - 180)])
    assert lines(status(open=held))[-2:] == [
        "         step 4 of 7: send all traffic to slot b",
        f"         deadline {local(NOW - 180)} (over for 3 min)",
    ]
    back = standing([opened(), Turned(at=NOW, index=1, reason="it fell"), Began(at=NOW, index=0, undo=True, part=1)])
    assert lines(status(open=back))[-3:-1] == [
        "         turns back: it fell",
        "         taking back: stop slot b",
    ]


def test_the_lease_the_freeze_and_a_router_that_is_down():
    seen = observed(
        freeze=Freeze(reason="incident 812", by="eve@x", at=NOW), router=router(Route(share_b=10_000), applied=None)
    )
    assert lines(status(seen, holder=HOLDER, age=3.2))[-3:] == [
        "router:  down; committed: all traffic to slot b (generation 7)",
        "lease:   held by anna@build7 (heard 3 s ago, https://ci/7)",
        f"freeze:  by eve@x since {local(NOW)}: incident 812",
    ]


def test_nothing_that_others_wrote_reaches_the_terminal_unescaped():
    seen = observed(freeze=Freeze(reason="\x1b[2J\x07", by="e\u202eve", at=NOW))
    assert all(line.isprintable() for line in lines(status(seen)))


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (119, "119 s"), (121, "2 min"), (7300, "2 h"), (200_000, "2 days")]
)
def test_spans(seconds, text):
    assert span(seconds) == text


def test_json_has_the_same_keys_whatever_is_so():
    def shape(value):
        return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else None

    rest, busy = document(status()), document(status(open=AWAITING, holder=HOLDER))
    assert list(document(None)) == list(rest) == list(busy)
    assert shape(rest["slots"]) == shape(document(status(first_live()))["slots"])
    unreadable = document(status(trouble="it is gone"))["release"]
    assert list(unreadable) == list(busy["release"])
    assert (unreadable["course"], unreadable["trouble"]) == ("unreadable", "it is gone")


def test_json_of_a_service_at_rest():
    found = document(status())
    assert found["live"] == {
        "slot": "b",
        "version": "digits@222222222222",
        "since": "2027-01-15T07:00:00Z",
        "release": RELEASE,
        "rollback": "hot",
    }
    assert found["slots"]["b"]["share"] == 10_000
    assert found["slots"]["b"]["in_flight"] == 37
    assert found["router"]["committed"] == found["router"]["in_force"] == {"share_b": 10_000, "closed": False}
    assert (found["lease"], found["freeze"], found["release"]) == (None, None, None)
    assert found["next"] == ["mlops-deploy rollback"]


def test_json_of_a_release_that_is_open():
    found = document(status(first_live(), open=AWAITING, holder=HOLDER, age=2.0))
    assert found["lease"] == {
        "holder": "anna@build7", "url": "https://ci/7", "release": RELEASE, "age": 2.0, "token": 4,
    }  # fmt: skip
    assert found["release"] | {"opened": 0, "deadline": 0} == {
        "id": RELEASE, "course": "running", "trouble": None, "strategy": "bluegreen", "by": "anna@build7", "opened": 0,
        "direction": "forward", "step": "wait until slot b is ready, at most 120 s", "number": 2, "steps": 7,
        "deadline": 0, "reason": None,
    }  # fmt: skip


def test_the_next_command_is_for_the_same_service():
    place = Place(file="my services/a.yml", environment="prod", target="process")
    assert document(None, place)["next"] == ["mlops-deploy release -f 'my services/a.yml' -e prod --target process"]


def test_changes():
    shifted = first_live(b=view("b", model=TWO), router=router(Route(share_b=10_000), generation=8))
    gone = UnreachableError("no engine")
    looks = [
        None, None, status(first_live()), status(first_live()), status(first_live(), open=AWAITING, holder=HOLDER),
        status(shifted), gone, gone, status(shifted),
    ]  # fmt: skip
    found = list(change_lines(service(), iter(looks)))
    assert found[0] == "digits (docker): nothing runs; it has not been released yet, or was taken down"
    assert found[1:7] == status_lines(service(), status(first_live()), NOW)
    assert [line[10:] for line in found[7:]] == [
        "lease: held by anna@build7",
        f"release {RELEASE}: running, wait until slot b is ready, at most 120 s",
        f"release {RELEASE}: has ended",
        "router: all traffic to slot b (generation 8)",
        "slot a: parked hot, digits@111111111111, running, up",
        "slot b: live 100 %, digits@222222222222, running, up",
        "lease: free",
        "target: not reachable: no engine",
        "target: reachable again",
    ]


def test_what_becomes_another_thing_is_shown_as_a_whole():
    slots, nothing = (
        status(first_live()),
        "digits (docker): nothing runs; it has not been released yet, or was taken down",
    )
    found = list(change_lines(service(), iter([slots, None, NATIVE, None, slots])))
    whole = status_lines(service(), slots, NOW)
    assert found == [*whole, nothing, *lines(NATIVE), nothing, *whole]


CONFIG = "service: digits\nmodel: {path: m}\n"


@pytest.mark.parametrize(
    "command", ["status", "history", "logs", "freeze -m x", "unfreeze", "down", "router apply", "tend"]
)
@pytest.mark.parametrize(
    "case", [(None, "", 2, "there is no `mlops.yml`"), (CONFIG, " --target docker", 8, "no Docker")]
)
def test_a_place_where_nothing_can_be(tmp_path, command, case):
    text, target, code, said = case
    refused(tmp_path, command + target, text, code, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("status --target kubernetes", "target `kubernetes` cannot be released to yet"),
        ("status --target moon", "'moon' is not one of"),
        ("logs --slot c", "'c' is not one of"),
        ("logs --target process --task router --slot a", "the router is in no slot"),
        ("history -n 0", "0 is not in the range"),
        ("freeze", "Missing option '-m'"),
        ("freeze -m ", "the value is empty"),
        ("freeze -m \x1b --target process", "one line that can be read"),
        ("router stop", "'stop' is not 'apply'"),
    ],
)
def test_what_cannot_be_asked_for(tmp_path, arguments, said):
    refused(tmp_path, arguments, CONFIG, 2, said)


def refused(folder, arguments, text, code, said):
    if text is not None:
        (folder / "mlops.yml").write_text(text)
    done = run(*arguments.split(" "), cwd=folder)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert "unexpected" not in done.stderr
