"""The prediction server becomes an image: built once per set of inputs, labelled with what it provides."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mlops_deploy.api.server_inputs import ServerBuild, check_inputs, inputs_digest, server_tag
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.ports import ImageBuilder, LineSink, Story
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.deploy import JsonValue
from mlops_deploy.spec.owner import LABEL
from mlops_deploy.spec.recipe import ImageFacts, Recipe
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.spec.secret import Secret

OWN_BASE: Final = "mlops-base:bookworm"
"""What `images/base/build.sh` makes: the base where it is there and none is named."""

PULLED_BASE: Final = "python:3.11-slim-bookworm"
"""The base otherwise: the same Debian and the same Python, from a registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltServer:
    """The image, what it provides, and whether anything had to be done for it."""

    tag: ImageRef
    base: str
    facts: ImageFacts
    provides: dict[str, JsonValue]
    built: bool
    seconds: float


def build_server(build: ServerBuild, builder: ImageBuilder, story: Story) -> BuiltServer:
    """Build the image, or find it; an interrupted or failed build leaves no image under the tag."""
    started = time.monotonic()
    check_inputs(build)
    base, base_id = choose_base(build.base, builder, story)
    labels = {
        f"{LABEL}preset": build.preset.name,
        f"{LABEL}server.inputs": inputs_digest(build),
        f"{LABEL}server.base": base,
    }
    tag = server_tag(build)
    facts = _found(tag, labels, base_id, builder)
    built = facts is None
    if facts is None:
        story.say(f"building `{tag}` on `{base}`")
        with _recipe(build, base) as recipe:
            facts = _build(recipe, labels, tag, builder, story)
    provides = json.loads(facts.labels[f"{LABEL}provides"])
    return BuiltServer(
        tag=tag, base=base, facts=facts, provides=provides, built=built, seconds=time.monotonic() - started
    )


def _build(recipe: Recipe, labels: dict[str, str], tag: ImageRef, builder: ImageBuilder, story: Story) -> ImageFacts:
    """Build without a name, ask the image what it provides, and build again with name and labels, all from cache."""
    steps = _Steps(story)
    unnamed = _first_build(recipe, builder, steps)
    try:
        base = builder.facts(recipe.args["BASE"])
        labels = {
            **labels,
            f"{LABEL}provides": _provides(unnamed, builder),
            **({f"{LABEL}server.base.id": str(base.id)} if base else {}),
        }
        builder.build(replace(recipe, labels=labels, tag=tag), steps)
    finally:
        builder.remove(unnamed)
    facts = builder.facts(str(tag))
    if facts is None:
        raise DeployError(f"the engine does not have `{tag}` after building it")
    return facts


def _first_build(recipe: Recipe, builder: ImageBuilder, steps: LineSink) -> Digest:
    try:
        return builder.build(recipe, steps)
    except (UnusableInputError, UnreachableError) as error:
        if error.hint is not None or builder.facts(recipe.args["BASE"]) is not None:
            raise
        hint = f"`{IMAGES / 'base' / 'build.sh'}` makes one without a registry; name it with `--base {OWN_BASE}`"
        raise type(error)(error.message, hint=hint, detail=error.detail) from error


def _provides(image: Digest, builder: ImageBuilder) -> str:
    done = builder.run(str(image), ("python", "-m", "mlops_server.provides"))
    if done.code != 0:
        lines = tuple(done.err.splitlines()[-10:])
        raise UnusableInputError("the built server does not start", hint="the hook must fit the server", detail=lines)
    return done.out.strip()


def _found(tag: ImageRef, labels: dict[str, str], base: Digest | None, builder: ImageBuilder) -> ImageFacts | None:
    """The image under `tag`, if it was made from these inputs and from the base as it is now."""
    facts = builder.facts(str(tag))
    if facts is None or not labels.items() <= facts.labels.items() or f"{LABEL}provides" not in facts.labels:
        return None
    same_base = base is None or facts.labels.get(f"{LABEL}server.base.id") == str(base)
    return facts if same_base else None


def choose_base(named: str | None, builder: ImageBuilder, story: Story) -> tuple[str, Digest | None]:
    """The base and its id, if the engine has it: the one that is named, else our own, else the one to pull."""
    if named is not None:
        facts = builder.facts(named)
        return named, facts.id if facts else None
    for name in (OWN_BASE, PULLED_BASE):
        if facts := builder.facts(name):
            return name, facts.id
    story.say(f"no base is named, and the engine has none: `{PULLED_BASE}` will be pulled")
    return PULLED_BASE, None


@contextmanager
def _recipe(build: ServerBuild, base: str) -> Iterator[Recipe]:
    """The build as BuildKit takes it; hook and constraints are copied, so that no other file is sent with them."""
    with tempfile.TemporaryDirectory(prefix="mlops-deploy-") as folder:
        contexts = {}
        for stage, file in (("hook", build.hook), ("constraints", build.constraints)):
            if file is not None:
                contexts[stage] = Path(folder) / stage
                contexts[stage].mkdir()
                name = "hook.py" if stage == "hook" else "constraints.txt"
                (contexts[stage] / name).write_bytes(file.read_bytes())
        args = {"BASE": base, **({"HOOK": "/opt/hook/hook.py"} if build.hook else {})}
        yield Recipe(context=build.recipe, args=args, contexts=contexts, secrets=_secrets(build))


def _secrets(build: ServerBuild) -> dict[str, Secret | Path]:
    lines = ["[global]"]
    if build.index_url is not None:
        lines.append(f"index-url = {build.index_url.reveal()}")
    if build.ca_bundle is not None:
        lines.append("cert = /run/secrets/ca.crt")
    secrets: dict[str, Secret | Path] = {} if len(lines) == 1 else {"pip.conf": Secret("\n".join(lines) + "\n")}
    return secrets | ({} if build.ca_bundle is None else {"ca.crt": build.ca_bundle.absolute()})


class _Steps:
    """Tells each step that is really done; what comes from cache is not worth a line."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._begun: dict[str, str] = {}

    def __call__(self, line: str, /) -> None:
        """Take a line of BuildKit's plain progress: `#7 [stage 2/4] COPY …`, then `#7 CACHED` or what the step says."""
        number, _, text = line.partition(" ")
        if text.startswith("[") and " FROM " not in text and not text.startswith(("[internal]", "[context ")):
            self._begun[number] = text
        elif (step := self._begun.pop(number, None)) is not None and text != "CACHED":
            self._story.say(step[:100])
