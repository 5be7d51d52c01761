"""Whether a model fits a server, asked before anything starts; where it does not, nothing does."""

import json
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from mlops_deploy.api.server_inputs import configured, known_preset
from mlops_deploy.compat.provides import Provides
from mlops_deploy.compat.verdict import Verdict, compare
from mlops_deploy.errors import RefusedError, UnusableInputError
from mlops_deploy.ports import Engine, Story
from mlops_deploy.release.state import Artefact
from mlops_deploy.spec.deploy import DeploySpec
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.preset import Preset
from mlops_deploy.store.layout import Stored

PROVIDES: Final = f"{LABEL}provides"
_PIN: Final = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*==\s*([^\s;#]+)")


def server_provides(labels: Mapping[str, str] | None, preset: Preset | None) -> Provides | None:
    """What a server image says in its label, else what its preset says; None where neither says anything."""
    with suppress(ValueError, RecursionError):
        said = json.loads((labels or {}).get(PROVIDES, ""))
        if isinstance(said, dict):
            return Provides.of(said, preset.formats if preset else ())
    return preset_provides(preset) if preset else None


def require_no_carrier(ref: str, labels: Mapping[str, str] | None) -> None:
    """Raise `UnusableInputError` when the image `ref`, which is taken for a server, carries a model."""
    if f"{LABEL}content" in (labels or {}):
        raise UnusableInputError(
            f"`{ref}` is a carrier of a model, and no server",
            hint="`mlops-deploy build-server` makes a server image; `server.image` in mlops.yml names one",
        )


def preset_provides(preset: Preset) -> Provides | None:
    """What every server of `preset` provides, also one that nobody has looked at."""
    if not preset.formats and not preset.provides:
        return None
    return Provides.of(preset.provides, preset.formats)


def engine_provides(spec: DeploySpec, engine: Callable[[], Engine], artefact: Artefact) -> Provides | None:
    """What the server of `artefact` provides, by the label of its image in the engine."""
    labels = engine().labels(artefact.server_id)
    require_no_carrier(artefact.server, labels)
    return server_provides(labels, known_preset(spec.preset))


def local_provides(spec: DeploySpec) -> Provides:
    """What the server that is made here provides: this Python, and the packages that its constraints pin."""
    build = configured(known_preset(spec.preset), spec.server)
    text = (build.constraints or build.recipe / "constraints.txt").read_text(encoding="utf-8")
    pins = {match[1]: match[2] for line in text.splitlines() if (match := _PIN.match(line))}
    return Provides.of({"python": platform.python_version(), **pins}, build.preset.formats)


def require_fit(
    spec: DeploySpec, carrier: Stored, server: str, provides: Provides | None, story: Story, *, seen: bool = True
) -> None:
    """Raise `RefusedError` when the model of `carrier` cannot work on `server`, with the way out; warn of the rest.

    With `compat: warn` it is told too, and goes on. Of a server that nobody has `seen` what is not known is no warning.
    """
    verdicts = compare(carrier.formats, carrier.requires, provides)
    model = f"{carrier.name}@{carrier.content_id.short}"
    failed = [verdict for verdict in verdicts if verdict.level == "fail"]
    if failed and spec.compat == "refuse":
        raise RefusedError(
            f"the model `{model}` does not fit the server `{server}`: {_what(failed[:1])}",
            detail=[f"  {_what([verdict])}" for verdict in failed[1:]],
            hint=f"{failed[0].fix}; `compat: warn` in mlops.yml lets it through",
        )
    if failed:
        story.warn(f"the model `{model}` does not fit the server `{server}`: {_what(failed)}")
    if near := [verdict for verdict in verdicts if verdict.level == "warn"]:
        story.warn(f"the model fits the server `{server}`, but {_what(near)}")
    about = ", ".join(f"`{verdict.about}`" for verdict in verdicts if verdict.level == "unknown")
    if about and seen:
        story.warn(f"whether the server `{server}` has what the model needs is not known: {about}")
    elif about:
        story.say(f"not checked: whether the server `{server}`, which nobody shows, has {about}")


def require_glance(
    spec: DeploySpec, carrier: Stored, server: str, labels: Mapping[str, str] | None, story: Story
) -> None:
    """As `require_fit`, with the labels of the server, None where nobody shows it."""
    require_no_carrier(server, labels)
    provides = server_provides(labels, known_preset(spec.preset))
    require_fit(spec, carrier, server, provides, story, seen=labels is not None)


def _what(verdicts: Iterable[Verdict]) -> str:
    return "; ".join(f"it needs `{verdict.about}`, {verdict.said}" for verdict in verdicts)
