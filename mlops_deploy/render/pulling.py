"""What a bootstrap that pulls is told, wherever it runs: which carrier, by which proxy, as whom, what it may trust."""

import re
from collections.abc import Mapping
from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.deploy import DeploySpec
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.spec.registry import RegistrySpec
from mlops_deploy.spec.rendered import CarrierRef

CREDENTIALS: Final = "/run/registry/credentials.json"
"""Where the credentials are in a container."""

CA: Final = "/run/registry/ca.crt"
"""Where the certificates are that a registry's is checked with."""

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def in_container(spec: DeploySpec, carrier: CarrierRef, *, volume: str) -> dict[str, str]:
    """The variables of a bootstrap in a container; `volume` is the folder that it fills."""
    registry = spec.registry
    return pull_environment(
        registry,
        carrier,
        volume=volume,
        credentials=registry.credentials and CREDENTIALS,
        ca=registry.ca and CA,
    )


def pull_environment(
    registry: RegistrySpec, carrier: CarrierRef, *, volume: str, credentials: str | None, ca: str | None
) -> dict[str, str]:
    """The variables that `mlops_deploy.cli.puller` reads, and those of the registry's client.

    `credentials` and `ca` are where the files of `registry` are for whoever pulls.
    """
    host = ImageRef.parse(carrier.image.ref).host
    told = {
        "MODEL_REF": carrier.image.ref,
        "MODEL_ID": carrier.content_id.hex,
        "MODEL_VOLUME": volume,
        "REGISTRY_AUTH_FILE": credentials,
        "SSL_CERT_FILE": ca,
        "MLOPS_DEPLOY_INSECURE_REGISTRIES": host if registry.insecure else None,
        **_both_cases("HTTPS_PROXY", registry.proxy),
        **_both_cases("HTTP_PROXY", registry.proxy),
        **_both_cases("NO_PROXY", registry.no_proxy),
    }
    return {name: value for name, value in told.items() if value}


def _both_cases(name: str, value: str | None) -> dict[str, str | None]:
    """A variable as it is usually written, and in lower case: that counts first, and Compose may bring its own."""
    return {name: value, name.lower(): value}


def files_on_node(registry: RegistrySpec) -> Mapping[str, str]:
    """Where the files are in a container, and where on the node; raise `UnusableInputError` for what is no path."""
    for key, value in _named(registry).items():
        if not value.startswith("/"):
            raise UnusableInputError(
                f"`registry.{key}` is `{value}`, which is no path on a node",
                hint="name a file of the node by its absolute path; a name is for Kubernetes",
            )
    places = {CREDENTIALS: registry.credentials, CA: registry.ca}
    return {inside: outside for inside, outside in places.items() if outside is not None}


def refuse_paths(registry: RegistrySpec) -> None:
    """Raise `UnusableInputError` for what cannot name a secret or a config map of Kubernetes."""
    for key, value in _named(registry).items():
        if not _NAME.fullmatch(value):
            kind = "secret" if key == "credentials" else "config map"
            raise UnusableInputError(
                f"`registry.{key}` is `{value}`, which cannot name a {kind}",
                hint="on Kubernetes it is the name of one in the same namespace; an overlay may say so for it alone",
            )


def _named(registry: RegistrySpec) -> dict[str, str]:
    both = {"credentials": registry.credentials, "ca": registry.ca}
    return {key: value for key, value in both.items() if value is not None}
