"""A carrier built by Docker from `images/carrier/Dockerfile`: the same tree, in layers of BuildKit's own making."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mlops_deploy.api.build_model import ModelBuild, build_model
from mlops_deploy.api.conduit import Conduit
from mlops_deploy.api.shells import applets
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.oci.image import Carrier
from mlops_deploy.oci.inventory import Inventory, require_unchanged
from mlops_deploy.oci.metadata import metadata_layer
from mlops_deploy.oci.packing import LayerPlan, plan_layers
from mlops_deploy.oci.shell import Shell, shell_layer
from mlops_deploy.oci.stream import LayerSource, ModelStream
from mlops_deploy.oci.tar import Entry, Text
from mlops_deploy.ports import Engine, Runner, Story
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.refs import SHORT, Digest, ImageRef
from mlops_deploy.store.cache import DigestCache

_DEADLINE: Final = 3600.0
"""Seconds that a build may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerBuilt:
    """What Docker made: its image id, its names, and what it took in bytes and seconds."""

    carrier: Carrier
    image_id: Digest
    names: tuple[ImageRef, ...]
    bytes_read: int
    bytes_sent: int
    seconds: float


def build_with_docker(
    build: ModelBuild, runner: Runner, engine: Engine, cache: DigestCache, story: Story
) -> DockerBuilt:
    """Build the carrier in the engine; the model is read to be hashed, unless it is known, and again to be sent."""
    started = time.monotonic()
    if not engine.ping():
        raise UnreachableError("no Docker Engine answers", hint="`--builder native` needs none")
    if len(build.shells) > 1:
        raise UnusableInputError("`--builder docker` builds for one platform", hint="give one `--shell`")
    inventory = build.inventory()
    known = build_model(build, (), cache, story)
    carrier = known.carrier
    names = build.tags or (ImageRef(name=build.image, tag=carrier.content_id.hex[:SHORT]),)
    context = _Context(runner, argv(carrier, names), inventory)
    read = _send(build.shells[0], carrier, context)
    image_id = engine.image_id(str(names[0]))
    if image_id is None:
        raise DeployError(f"the engine does not have `{names[0]}` after building it")
    return DockerBuilt(
        carrier=carrier,
        image_id=image_id,
        names=names,
        bytes_read=known.bytes_read + read,
        bytes_sent=context.sent,
        seconds=time.monotonic() - started,
    )


def argv(carrier: Carrier, names: Iterable[ImageRef]) -> tuple[str, ...]:
    """The command that builds a carrier from a context on standard input."""
    labels = carrier.metadata.labels().items()
    return (
        *("docker", "buildx", "build", "--load", "--provenance=false", "--network=none"),
        *("--platform", str(carrier.images[0].platform), "--build-arg", f"MODEL_ID={carrier.content_id}"),
        *(part for key, value in sorted(labels) for part in ("--label", f"{key}={value}")),
        *(part for name in names for part in ("--tag", str(name))),
        "-",
    )


class _Context:
    """The build context as a sink: one tar, given to the builder while it is made.

    `inventory` was taken before anything was read: nothing may have changed when the builder gets the end.
    """

    def __init__(self, runner: Runner, command: tuple[str, ...], inventory: Inventory) -> None:
        self._runner = runner
        self._command = command
        self.inventory = inventory
        self._conduit = Conduit(self._build)
        self.sent = 0

    def begin(self, layer: LayerSource) -> None:
        """Nothing precedes the context."""

    def write(self, block: memoryview) -> None:
        """Pass a block on."""
        self._conduit.put(block)
        self.sent += len(block)

    def end(self, digest: Digest) -> None:  # noqa: ARG002 - a context has no digest of its own
        """Wait for the builder."""
        require_unchanged(self.inventory)
        self._conduit.close()

    def break_off(self) -> None:
        """End the builder; it keeps nothing."""
        self._conduit.break_off()

    def _build(self, blocks: Iterable[bytes | memoryview]) -> None:
        finished = self._runner.run(self._command, stdin=blocks, timeout=_DEADLINE)
        if finished.code:
            raise DeployError("docker could not build the carrier", detail=finished.err.splitlines()[-20:])


def _send(shell: Shell, carrier: Carrier, context: _Context) -> int:
    script = (IMAGES / "carrier" / "deploy.sh").read_bytes()
    recipe = Text(name="Dockerfile", data=(IMAGES / "carrier" / "Dockerfile").read_bytes())
    parts = (shell_layer(shell, applets()), *plan_layers(context.inventory.files))
    entries: tuple[Entry, ...] = tuple(
        entry for plan in (*parts, metadata_layer(carrier.metadata, script)) for entry in plan.entries
    )
    read = 0

    def count(size: int) -> None:
        nonlocal read
        read += size

    try:
        with ModelStream(count) as stream:
            stream.layer(LayerPlan(entries=(recipe, *entries)), (context,))
            stream.finish()
    except BaseException:
        context.break_off()
        raise
    return read
