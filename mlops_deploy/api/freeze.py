"""A freeze: no release until somebody lifts it. It needs no lease, so that it can be set while a release runs."""

from dataclasses import dataclass

from mlops_deploy.api.drive import drive
from mlops_deploy.api.service import Service, existing_world
from mlops_deploy.errors import LockedError, NeedsHumanError
from mlops_deploy.release.codec import decode, encode
from mlops_deploy.release.effects import Refused
from mlops_deploy.release.exchange import Run, clock, put, stored
from mlops_deploy.release.observe import FREEZE, current, journal_of
from mlops_deploy.release.state import Freeze
from mlops_deploy.spec.deploy import JsonValue

_NO_LEASE = 0


def freeze(service: Service, reason: str) -> Freeze:
    """Let no release begin from now on; raise `LockedError` when a freeze stands already.

    One that runs goes on to its end.
    """
    with existing_world(service) as world:
        return drive(_set(reason, service.holder.name), world)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """A freeze that stands no more; `stuck` when a release had set it that could not turn back, and still has not."""

    freeze: Freeze
    stuck: bool


def unfreeze(service: Service, *, force: bool) -> Lifted | None:
    """Lift the freeze and return it, None when there was none.

    Raises `LockedError` when a release set it that could not turn back, unless `force` says so.
    """
    with existing_world(service) as world:
        return drive(_lift(force=force), world)


def _set(reason: str, by: str) -> Run[Freeze]:
    found = yield from stored(FREEZE)
    if found.value is not None:
        standing = decode(Freeze, found.value, FREEZE)
        raise LockedError(
            f"the service is frozen already, by `{standing.by}`: {standing.reason}",
            hint="`mlops-deploy unfreeze` lifts it",
        )
    wanted = Freeze(reason=reason, by=by, at=(yield from clock()).wall)
    yield from _write(encode(wanted), found.index)
    return wanted


def _lift(*, force: bool) -> Run[Lifted | None]:
    found = yield from stored(FREEZE)
    if found.value is None:
        return None
    standing = decode(Freeze, found.value, FREEZE)
    stuck = yield from _is_stuck(standing)
    if stuck and not force:
        raise LockedError(
            f"{standing.reason}; its freeze keeps others away until a person has looked",
            hint="`mlops-deploy abort` finishes turning back and lifts it; `mlops-deploy unfreeze --force` lifts it "
            "and leaves everything else as it is",
        )
    yield from _write(None, found.index)
    return Lifted(freeze=standing, stuck=stuck)


def _is_stuck(freeze: Freeze) -> Run[bool]:
    """Whether the release that set `freeze` is the last one, and has not ended, as far as anybody can read."""
    release = yield from current()
    if release is None or freeze.by != release:
        return False
    try:
        return (yield from journal_of(release)).phase != "ended"
    except NeedsHumanError:
        return True


def _write(value: JsonValue, index: int) -> Run[None]:
    answer = yield from put(FREEZE, value, index, _NO_LEASE)
    if isinstance(answer, Refused):
        raise LockedError(
            f"the freeze is as somebody else left it meanwhile: {answer.reason}",
            hint="`mlops-deploy status` shows what stands now",
        )
