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
    """The carrier that a job's bootstrap runs: the index of the image `name`, and the model inside it.

    One that is not `local` comes from the registry that `name` begins with. `size` is that of the model in bytes, where
    it is known. With a `puller` the bootstrap runs that image instead, which fetches the model from the registry.
    """

    name: str
    digest: Digest
    content_id: ContentId
    local: bool = True
    size: int | None = None
    puller: JobImage | None = None

    @property
    def image(self) -> JobImage:
        """`NAME:<12 hex digits of the digest>`, as an engine calls all that were loaded, else `NAME@sha256:…`."""
        ref = f"{self.name}:{self.digest.short}" if self.local else f"{self.name}@{self.digest}"
        return JobImage(ref=ref, local=self.local)

    @property
    def bootstrap(self) -> JobImage:
        """The image that a bootstrap runs."""
        return self.puller or self.image


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One job file of a project: complete text, the same bytes for the same input."""

    target: Target
    project: str
    text: str
