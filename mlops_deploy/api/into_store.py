"""A carrier of a registry is brought into the store, for what runs on this machine without an engine."""

from mlops_deploy.api.carriers import found_in_registry
from mlops_deploy.api.copy_places import StorePlace
from mlops_deploy.api.copying import copy_carrier
from mlops_deploy.api.registry_images import FindRegistries, look_up
from mlops_deploy.ports import Story
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.store.layout import LayoutStore, Stored


def bring_into_store(ref: ImageRef, store: LayoutStore, registries: FindRegistries, story: Story) -> Stored:
    """The carrier `ref` in the store; it is copied there unless it is there.

    It is no build: the newest carrier of the store stays the one that was.
    """
    if ref.digest is None or not store.has_carrier(ref.digest.hex):
        remote = look_up(ref, registries())
        ref = remote.ref
        if not store.has_carrier(remote.digest.hex):
            story.say(f"copying `{remote.ref}` into the store `{store.path}`")
            place = StorePlace(store, ImageRef(name=ref.name, tag=ref.tag), None, story.say)
            copy_carrier(found_in_registry(remote), place, story)
    return store.find(str(ref.digest))
