"""The keys `bootstrap` and `registry` of `mlops.yml`."""

from dataclasses import dataclass
from typing import Final, get_args

from mlops_deploy.config.fields import NOTHING, At, Field, Schema, Table, Values
from mlops_deploy.config.issues import Mark, Source, show_path
from mlops_deploy.config.kinds import Choice, Parsed, Text
from mlops_deploy.config.marks import Node, Scalar
from mlops_deploy.config.switch import Switch
from mlops_deploy.spec.refs import IMAGE_REF_PATTERN, ImageRef
from mlops_deploy.spec.registry import Bootstrap, RegistrySpec

_DEFAULT: Final = RegistrySpec()
_WAYS: Final[tuple[Bootstrap, ...]] = get_args(Bootstrap)

_ABSOLUTE: Final = r"/[^\x00-\x1f\x7f]+"
_OBJECT: Final = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
_PORT: Final = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_PROXY: Final = rf"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:({_PORT}))?/?"
_HOSTS: Final = r"[A-Za-z0-9*._:/\[\], -]+"
_THERE: Final = "an absolute path on the node, or a name on Kubernetes"


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """The URL of an HTTP proxy. One with a user is refused and not shown: it would stand in files that are shared."""

    expected: str = "a URL such as `http://proxy.example.com:3128`, without user and password"

    def decode(self, node: Node, at: At) -> str | None:
        """The URL."""
        if isinstance(node, Scalar) and "@" in node.text:
            hint = "it would stand in the job's files: let the proxy know the nodes by their addresses"
            at.wrong(_hidden(node.mark), f"`{show_path(at.path)}` must be {self.expected}", hint)
            return None
        return Text(self.expected, _PROXY).decode(node, at)

    def schema(self) -> Schema:
        """A string with the pattern."""
        return Text(self.expected, _PROXY).schema()


def _hidden(mark: Mark) -> Mark:
    """The same place in a text that ends there."""
    lines = mark.source.lines[: mark.line]
    text = "\n".join((*lines[:-1], lines[-1][: mark.column - 1] + "…"))
    return Mark(Source(mark.source.name, text), mark.line, mark.column)


BOOTSTRAP: Final[Field[Bootstrap]] = Field(
    "bootstrap",
    Choice(_WAYS),
    doc=(
        "How a model comes to where it is served: `copy` runs the carrier, which copies it; `pull` fetches it from the "
        "carrier's registry straight into the volume, so that no engine keeps it a second time."
    ),
    default="copy",
    example="copy",
    shown="copy",
)

CREDENTIALS: Final[Field[str | None]] = Field(
    "credentials",
    Text(_THERE, rf"{_ABSOLUTE}|{_OBJECT}"),
    doc=(
        "Credentials in the form of docker's `config.json`: a file on the node that uid 65532 may read; on Kubernetes "
        "a secret of type `kubernetes.io/dockerconfigjson`."
    ),
    default=_DEFAULT.credentials,
    example="/etc/mlops/registry.json",
    shown="none",
)
CA: Final[Field[str | None]] = Field(
    "ca",
    Text(_THERE, rf"{_ABSOLUTE}|{_OBJECT}"),
    doc=(
        "Certificates in PEM form that the registry's is checked with: a file on the node; on Kubernetes a config map "
        "with the key `ca.crt`."
    ),
    default=_DEFAULT.ca,
    example="/etc/ssl/certs/ca-certificates.crt",
    shown="those of the puller image",
)
INSECURE: Final = Field(
    "insecure",
    Switch(),
    doc="Whether the carrier's registry may be asked by plain HTTP, or with a certificate that cannot be checked.",
    default=_DEFAULT.insecure,
    example="false",
    shown="false",
)
PROXY: Final[Field[str | None]] = Field(
    "proxy",
    ProxyUrl(),
    doc="The HTTP proxy that the bootstrap asks the registry by. The server is not told of it.",
    default=_DEFAULT.proxy,
    example="http://proxy.example.com:3128",
    shown="none",
)
NO_PROXY: Final[Field[str | None]] = Field(
    "no_proxy",
    Text("names, addresses or networks, separated by commas", _HOSTS),
    doc="What is asked without `registry.proxy`, as the variable `NO_PROXY` says it.",
    default=_DEFAULT.no_proxy,
    example="registry.internal,10.0.0.0/8",
    shown="nothing but the node itself",
)
PULLER: Final[Field[str | None]] = Field(
    "puller",
    Parsed(
        Text("an image reference such as `NAME:TAG` or `NAME@sha256:…`", IMAGE_REF_PATTERN),
        lambda text: str(ImageRef.parse(text)),
    ),
    doc="The image that pulls, in a registry, for nodes that do not share the local engine.",
    default=_DEFAULT.puller,
    example="registry.example.com/ml/puller:1.0",
    shown="the one that a release builds",
)
_TABLE: Final = Table(
    (CREDENTIALS, CA, INSECURE, PROXY, NO_PROXY, PULLER), doc="What `bootstrap: pull` needs where the model is served."
)
REGISTRY: Final[Field[Values]] = Field("registry", _TABLE, doc=_TABLE.doc, default=NOTHING)


def registry_spec(section: Values) -> RegistrySpec:
    """What the section says."""
    return RegistrySpec(
        credentials=section[CREDENTIALS],
        ca=section[CA],
        insecure=section[INSECURE],
        proxy=section[PROXY],
        no_proxy=section[NO_PROXY],
        puller=section[PULLER],
    )
