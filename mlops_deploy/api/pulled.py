"""Images of a registry, read through an engine: `NAME@sha256:…` is pulled, then looked at."""

from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.metadata import LABEL
from mlops_deploy.ports import Engine, Story
from mlops_deploy.spec.refs import ContentId, ImageRef
from mlops_deploy.store.layout import Stored


def in_registry(text: str) -> ImageRef | None:
    """The reference when `text` names an image by its digest, as a registry is asked for it; else None."""
    try:
        ref = ImageRef.parse(text)
    except UnusableInputError:
        return None
    return ref if ref.digest is not None else None


def ensure_pulled(engine: Engine, ref: ImageRef, story: Story) -> None:
    """Make the engine have the image `ref`, which names a digest; one that is there is not pulled."""
    if engine.image_id(str(ref)) is None:
        story.say(f"pulling `{ref}`")
        engine.pull(str(ref))


def pulled_carrier(engine: Engine, ref: ImageRef) -> Stored:
    """The carrier `ref`, which the engine has; its labels say which model it carries.

    Raises `UnusableInputError` for an image that is no carrier.
    """
    if ref.digest is None:
        raise DeployError(f"`{ref}` names no digest")
    labels = engine.labels(str(ref)) or {}
    name, content = labels.get(f"{LABEL}name"), labels.get(f"{LABEL}content")
    size = labels.get(f"{LABEL}size", "")
    if name is None or content is None:
        raise UnusableInputError(
            f"`{ref}` is no carrier: it lacks the labels that say which model it carries",
            hint="`mlops-deploy build-model` makes carriers",
        )
    return Stored(
        name=name,
        digest=ref.digest,
        content_id=ContentId(content),
        tags=(f"{ref.name}:{ref.tag or ref.digest.short}",),
        time=None,
        source=None,
        pulled=True,
        size=int(size) if size.isdecimal() else None,
    )
