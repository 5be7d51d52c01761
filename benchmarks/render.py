"""`render` of many services for Docker and for Nomad; templates are loaded once.

For Docker with parsing back. Peer: PyYAML's own C dump and load of the same document, which neither lays anything out
nor proves anything. For Nomad from the service to its HCL; reading that back beside it.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from mlops_deploy.render import hcl, nomad
from mlops_deploy.render.compose import document, render_compose
from mlops_deploy.spec.deploy import DeploySpec, GoldenRequest, ModelSpec, Ready, ReleaseSpec, Resources, ServerSpec
from mlops_deploy.spec.preset import Ports, Preset, Readiness
from mlops_deploy.spec.refs import ContentId, Digest
from mlops_deploy.spec.rendered import CarrierRef, JobImage

Item = TypeVar("Item")

LIMIT_MS = 2.0
CARRIER = CarrierRef(name="digits", digest=Digest("0" * 64), content_id=ContentId("1" * 64))
IMAGE = JobImage(ref="mlops-server-kserve-sklearn:012345abcdef", local=True)
PRESET = Preset(
    name="kserve-sklearn",
    doc="",
    command=("python", "-m", "mlops_server"),
    ports=Ports(http=8080),
    ready=Readiness(
        path="/v2/models/{name}/ready",
        endpoint="/v2/models/{name}/ready",
        command=("python", "-m", "mlops_server.ready"),
    ),
)
GOLDEN = GoldenRequest(
    request={"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP64", "data": [0.5] * 64}]},
    expect=({"name": "predict", "data": [3]},),
)


def service(number: int) -> DeploySpec:
    return DeploySpec(
        root=Path("/nowhere"),
        service=f"service-{number}",
        environment="bench",
        model=ModelSpec(path=Path("/nowhere/model"), name="digits"),
        preset="kserve-sklearn",
        server=ServerSpec(),
        target="docker",
        port=8080,
        env={f"SETTING_{n}": f"value {n} of ${{HOME}}" for n in range(10)},
        resources=Resources(cpu=1.0, memory=1 << 30),
        user=None,
        ready=Ready(golden=(GOLDEN,)),
        release=ReleaseSpec(),
    )


def best_of(work: Callable[[Item], object], items: Sequence[Item], rounds: int = 5) -> float:
    """Milliseconds per item: the mean of each item's fastest round, so that what else runs here counts little."""
    fastest = [math.inf] * len(items)
    for _ in range(rounds):
        for place, item in enumerate(items):
            started = time.perf_counter()
            work(item)
            fastest[place] = min(fastest[place], time.perf_counter() - started)
    return sum(fastest) / len(items) * 1000


def rendered(spec: DeploySpec) -> object:
    return render_compose(spec, CARRIER, IMAGE, PRESET)


def written_for_nomad(spec: DeploySpec) -> object:
    return hcl.lay_out(nomad.document(spec, CARRIER, IMAGE, PRESET))


def proven_for_nomad(spec: DeploySpec) -> object:
    return hcl.hcl(nomad.document(spec, CARRIER, IMAGE, PRESET))


def dumped_and_loaded(data: object) -> object:
    return yaml.load(yaml.dump(data, Dumper=yaml.CSafeDumper), yaml.CSafeLoader)


def rows() -> Iterator[tuple[str, str, str, float, str]]:
    """Name, ours, peer or limit, ratio, goal."""
    services = [service(number) for number in range(1000)]
    rendered(services[0])  # loads the template
    ten = best_of(rendered, services[:10])
    thousand = best_of(rendered, services)
    bare = best_of(dumped_and_loaded, [document(spec, CARRIER, IMAGE, PRESET) for spec in services[:200]])
    yield "render, of 1,000 services", f"{thousand:.2f} ms", f"{LIMIT_MS:.2f} ms", thousand / LIMIT_MS, "<= 1.0"
    yield "render, per service: 1,000 to 10", f"{thousand:.2f} ms", f"{ten:.2f} ms", thousand / ten, "<= 1.2"
    yield "render to YAML dump and load", f"{thousand:.2f} ms", f"{bare:.2f} ms", thousand / bare, "published"
    written_for_nomad(services[0])
    written = best_of(written_for_nomad, services)
    proven = best_of(proven_for_nomad, services[:200])
    yield "render for Nomad, of 1,000 services", f"{written:.2f} ms", f"{LIMIT_MS:.2f} ms", written / LIMIT_MS, "<= 1.0"
    yield "render for Nomad, with reading back", f"{proven:.2f} ms", f"{written:.2f} ms", proven / written, "published"


if __name__ == "__main__":
    for name, ours, limit, ratio, goal in rows():
        print(f"{name:<40} {ours:>12} {limit:>12} {ratio:>8.2f}  {goal}")
