"""Images of a registry in an engine: `NAME@sha256:…` is pulled where it is not there yet."""

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.ports import Engine, Story
from mlops_deploy.spec.refs import ImageRef


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
