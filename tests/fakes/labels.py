"""An engine of which nothing but the labels of its images is asked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops_deploy.errors import UnreachableError

LABEL = "io.mlops-deploy.provides"


def provides(formats=(), python="3.11.2", **packages):
    """The labels of a server image that says so of itself."""
    named = {name.replace("_", "-"): version for name, version in packages.items()}
    return {LABEL: json.dumps({"python": python, "formats": list(formats), "packages": named})}


@dataclass
class LabelledEngine:
    """Has `images`, by their names; does not answer at all when it is `away`."""

    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    away: bool = False

    def ping(self):
        return not self.away

    def labels(self, ref):
        if self.away:
            raise UnreachableError("no Docker Engine answers")
        return self.images.get(ref)

    def labelled(self, label):
        return {name: labels for name, labels in self.images.items() if label in labels}
