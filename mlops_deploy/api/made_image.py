"""An image of ours that is named by what it is made of: built once, and found by that name from then on."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256

from mlops_deploy.ports import Engine
from mlops_deploy.spec.refs import SHORT, ImageRef
from mlops_deploy.spec.rendered import JobImage


def made_of(name: str, hashes: Mapping[str, str]) -> ImageRef:
    """`NAME:<12 hex over its files>`: told without asking an engine."""
    inputs = sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()
    return ImageRef(name=name, tag=inputs[:SHORT])


def find_or_make(engine: Engine, tag: ImageRef, make: Callable[[], None]) -> JobImage:
    """The image under its name in the engine; made first where the engine has none."""
    if engine.image_id(str(tag)) is None:
        make()
    return JobImage(ref=str(tag), local=True)
