"""What a look at a service may find, made up piece by piece; a real release is in the integration tests."""

from dataclasses import replace

from mlops_deploy.api.status import Status
from mlops_deploy.release.bluegreen import bluegreen
from mlops_deploy.release.journal import Opened, Tally, to_line
from mlops_deploy.release.plan import Plan, base_of
from mlops_deploy.release.state import Artefact, Counters, Lane, Live, Observed, Proof, Route, RouterView, SlotView
from mlops_deploy.spec.deploy import ReleaseSpec
from mlops_deploy.spec.refs import ContentId, Digest

NOW = 1_800_000_000.0
RELEASE = "r-20270115-080000-7f3a"


def artefact(digit):
    """The model whose content id is `digit` 64 times."""
    return Artefact(
        model="digits",
        content_id=ContentId(str(digit) * 64),
        carrier=f"digits:{digit}",
        carrier_digest=Digest(str(digit) * 64),
        server="tiny",
        server_id="sha256:tiny",
        job={},
        proof=Proof(endpoint="/ready", identity="/me", infer="/infer", version=str(digit) * 12),
    )


ONE, TWO = artefact(1), artefact(2)


def view(slot, state="running", model=None, **more):
    return SlotView(slot=slot, state=state, key=model.key if model else None, revision=f"{slot}1", **more)


def lane(*, up=True, verdict="UP (L7OK 200)", sessions=0, requests=0, failed=0):
    return Lane(up=up, verdict=verdict, sessions=sessions, counters=Counters(requests=requests, failed=failed))


def router(route, **more):
    made = RouterView(
        route=route,
        applied=route,
        generation=7,
        token=3,
        a=lane(sessions=0, requests=1000),
        b=lane(sessions=37, requests=200),
        entry=Counters(requests=1234, failed=0),
        started="run-1",
    )
    return replace(made, **more)


def observed(**more):
    """Slot b is live since an hour, slot a is parked hot with what was live before."""
    made = Observed(
        a=view("a", model=ONE),
        b=view("b", model=TWO),
        router=router(Route(share_b=10_000)),
        live=Live(slot="b", key=TWO.key, release=RELEASE, since=NOW - 3600, previous=ONE.key),
        artefacts={ONE.key: ONE, TWO.key: TWO},
    )
    return replace(made, **more)


def first_live(**more):
    """Slot a is live and slot b is empty."""
    made = observed(
        b=view("b", "absent"),
        router=router(Route(share_b=0)),
        live=Live(slot="a", key=ONE.key, release="r-1", since=NOW - 90_000),
    )
    return replace(made, **more)


def status(seen=None, **more):
    made = Status(observed=seen or observed(), holder=None, age=0.0, release=RELEASE, open=None, trouble=None)
    return replace(made, **more)


def plan(seen=None, bake=30.0):
    """From the first model in slot a to the second in slot b."""
    seen = seen or first_live()
    return Plan(
        service="digits",
        environment=None,
        target="process",
        strategy="bluegreen",
        base=base_of(seen),
        candidate=TWO.key,
        artefacts=(ONE, TWO),
        steps=bluegreen(seen, TWO, ReleaseSpec(bake=bake)),
    )


def tally(requests=0, failed=0, started="run-1"):
    return Tally(
        started=started, a=Counters(requests=requests), b=Counters(), entry=Counters(requests=requests, failed=failed)
    )


def opened(**more):
    made = Opened(at=NOW - 60, release=RELEASE, holder="anna@build7", token=3, plan=plan(), tally=tally(requests=1000))
    return replace(made, **more)


def journal(*entries):
    return tuple(to_line(entry) for entry in entries)
