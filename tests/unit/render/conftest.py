"""A small service, complete, for the tests of this folder."""

from pathlib import Path

import pytest

from mlops_deploy.spec.deploy import DeploySpec, GoldenRequest, ModelSpec, Ready, ReleaseSpec, Resources, ServerSpec
from mlops_deploy.spec.preset import Ports, Preset, Readiness
from mlops_deploy.spec.refs import ContentId, Digest
from mlops_deploy.spec.rendered import CarrierRef, JobImage

GOLDEN = GoldenRequest(
    request={"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2.0]}]},
    expect=({"name": "predict", "data": [3.5]},),
    tolerance=1e-6,
)


@pytest.fixture
def spec() -> DeploySpec:
    return DeploySpec(
        root=Path("/nowhere"),
        service="digits",
        environment="test",
        model=ModelSpec(path=Path("/nowhere/model"), name="digits"),
        preset="kserve-sklearn",
        server=ServerSpec(),
        target=None,
        port=9000,
        env={"LOG_LEVEL": "info", "GREETING": 'say "hi" for $5, it\'s #1'},
        resources=Resources(cpu=1.5, memory=512 << 20),
        user=None,
        ready=Ready(golden=(GOLDEN,), deadline=120.0),
        release=ReleaseSpec(),
    )


@pytest.fixture
def carrier() -> CarrierRef:
    return CarrierRef(name="example/digits", digest=Digest("0123456789ab" + "c" * 52), content_id=ContentId("1" * 64))


@pytest.fixture
def image() -> JobImage:
    return JobImage(ref="mlops-server-kserve-sklearn:012345abcdef", local=True)


@pytest.fixture
def preset() -> Preset:
    return Preset(
        name="kserve-sklearn",
        doc="",
        build="server",
        command=("python", "-m", "mlops_server"),
        ports=Ports(http=8080, grpc=8081, metrics=8080),
        ready=Readiness(path="/v2/models/{name}/ready", command=("python", "-m", "mlops_server.ready")),
    )


@pytest.fixture
def job(carrier: CarrierRef, image: JobImage, preset: Preset) -> tuple[CarrierRef, JobImage, Preset]:
    """What a job is rendered from besides the service."""
    return carrier, image, preset
