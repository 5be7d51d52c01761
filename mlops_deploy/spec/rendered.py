"""What goes into a job file besides the service itself, and what comes out."""

from dataclasses import dataclass

from mlops_deploy.spec.deploy import Target
from mlops_deploy.spec.refs import ContentId, Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class JobImage:
    """An image as a job names it; a `local` one is never pulled, because no registry has it under that name."""

    ref: str
    local: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierRef:
    """The carrier that a job's bootstrap runs: the index of the image `name`, and the model inside it."""

    name: str
    digest: Digest
    content_id: ContentId

    @property
    def image(self) -> JobImage:
        """`NAME:<first 12 hex digits of the index digest>`: the name that every loaded carrier gets in an engine."""
        return JobImage(ref=f"{self.name}:{self.digest.short}", local=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One job file of a project: complete text, the same bytes for the same input."""

    target: Target
    project: str
    text: str
