"""Whose a thing in an engine is: the names and the labels that everything of one service has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LABEL: Final = "io.mlops-deploy."
"""What every label of ours begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A service in one environment."""

    service: str
    environment: str | None = None

    @property
    def project(self) -> str:
        """`<service>[-<env>]`: what every name begins with."""
        return f"{self.service}-{self.environment}" if self.environment else self.service

    def labels(self, slot: str | None = None) -> dict[str, str]:
        """The labels by which a thing is known as this service's, and as a slot's."""
        said = {"service": self.service, "env": self.environment, "slot": slot}
        return {f"{LABEL}{name}": value for name, value in said.items() if value}

    def owns(self, labels: Mapping[str, str], slot: str | None = None) -> bool:
        """Whether `labels` say that a thing is this service's and this slot's, and nobody else's."""
        telling = [f"{LABEL}{name}" for name in ("service", "env", "slot")]
        return {name: labels[name] for name in telling if name in labels} == self.labels(slot)
