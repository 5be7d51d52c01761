"""An artefact: one model on one server, complete, with the proof that it answers; whatever target it runs on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from mlops_deploy.api.puller_image import puller_image
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.state import Artefact, Proof
from mlops_deploy.spec.deploy import DeploySpec, JsonValue
from mlops_deploy.spec.preset import Preset, fill_preset, filling
from mlops_deploy.spec.refs import ContentId, ImageRef
from mlops_deploy.spec.rendered import CarrierRef
from mlops_deploy.store.layout import Stored

_INFER: Final = "/v2/models/{name}/infer"


def carrier_ref(carrier: Stored) -> CarrierRef:
    """How a job names a carrier."""
    return CarrierRef(
        name=carrier.image,
        digest=carrier.digest,
        content_id=carrier.content_id,
        local=not carrier.pulled,
        size=carrier.size,
    )


def job_carrier(spec: DeploySpec, carrier: Stored) -> CarrierRef:
    """How a job of this service names a carrier, and what its bootstrap runs.

    Raises `UnusableInputError` for a carrier that is to be pulled and has no name in a registry.
    """
    ref = carrier_ref(carrier)
    if spec.bootstrap == "copy":
        return ref
    named = (one.name for one in map(ImageRef.parse, carrier.tags) if one.host is not None)
    name = next(named, ref.name if carrier.ref.host else None)
    if name is None:
        raise UnusableInputError(
            f"`bootstrap: pull` needs a carrier in a registry, and `{ref.image.ref}` is only in the store",
            hint="`mlops-deploy build-model --push REGISTRY/NAME:TAG` sends it there, "
            "`--model REGISTRY/NAME:TAG` names it",
        )
    return replace(ref, name=name, local=False, puller=puller_image(spec.registry))


def make_artefact(
    spec: DeploySpec,
    carrier: Stored,
    preset: Preset,
    *,
    server: str,
    server_id: str,
    job: Mapping[str, JsonValue],
) -> Artefact:
    """The model of `carrier` on the server that people call `server`, run as `job` says, the target's own affair."""
    named = job_carrier(spec, carrier)
    return Artefact(
        model=carrier.name,
        content_id=carrier.content_id,
        carrier=named.image.ref,
        carrier_digest=carrier.digest,
        server=server,
        server_id=server_id,
        job=job,
        proof=make_proof(spec, preset, carrier.content_id),
        puller=None if named.puller is None else named.puller.ref,
    )


def make_proof(spec: DeploySpec, preset: Preset, content: ContentId) -> Proof:
    """What a server of `preset` must answer to be taken for the model `content`.

    Raises `UnusableInputError` for a preset that does not say what a router may ask whichever version is there.
    """
    ready = fill_preset(preset, filling(preset, name=spec.model.name, content=content, path="")).ready
    if ready.endpoint is None:
        raise UnusableInputError(
            f"preset `{preset.name}` has no `ready.endpoint`, without which a router cannot know that a slot is up",
            hint="give the preset a path that answers once a model is loaded, whichever version it is",
        )
    return Proof(
        endpoint=ready.endpoint,
        identity=ready.path,
        infer=_INFER.format(name=spec.model.name),
        version=content.short,
        version_in=ready.version_in,
        status=ready.status,
        json=ready.json,
        golden=spec.ready.golden,
        deadline=spec.ready.deadline,
    )
