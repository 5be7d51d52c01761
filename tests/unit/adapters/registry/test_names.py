"""Digests and tags that are none, wherever a registry says them: no URL is ever made of one."""

import json
import re
from hashlib import sha256

import pytest

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.registry.registries import HttpRegistries
from mlops_deploy.api.carriers import found_in_registry, verify_carrier
from mlops_deploy.api.registry_images import look_up
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.types import INDEX, MANIFEST
from mlops_deploy.spec.refs import ImageRef
from tests.fakes.recording import Response, recording

GOOD = "sha256:" + "0" * 64
HOSTILE = {
    "path": "sha256:../../x",
    "encoded": "sha256:%2e%2e%2f" + "0" * 55,
    "short": "sha256:" + "0" * 63,
    "long": "sha256:" + "0" * 65,
    "upper": "sha256:" + "A" * 64,
    "md5": "md5:" + "0" * 32,
    "empty": "",
    "line": GOOD + "\r\nX: y",
    "end": GOOD + "\n",
    "none": None,
    "number": 7,
    "list": [GOOD],
    "url": "https://127.0.0.2/x",
}
ASKED = re.compile(r"/v2/team/app/(manifests|blobs)/(1|sha256:[0-9a-f]{64})|/v2/")


class Lying:
    """A registry with one carrier-like image, in which `value` stands for the digest at `place`."""

    def __init__(self, place, value):
        def digest(name, otherwise):
            return value if place == name else otherwise

        def part(name, kind):
            return {"mediaType": kind, "digest": digest(name, GOOD), "size": 2}

        layer = "application/vnd.oci.image.layer.v1.tar"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": part("config", "application/vnd.oci.image.config.v1+json"),
                "layers": [part("layer", layer), part("last layer", layer)],
            }
        ).encode()
        of_manifest = digest("manifest", f"sha256:{sha256(self.manifest).hexdigest()}")
        entry = {"mediaType": MANIFEST, "digest": of_manifest, "size": len(self.manifest)}
        entry["platform"] = {"os": "linux", "architecture": "amd64"}
        self.index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        self.told = digest("header", f"sha256:{sha256(self.index).hexdigest()}")

    def __call__(self, request):
        if request.path.endswith("/manifests/1") or request.path.endswith(sha256(self.index).hexdigest()):
            told = (("Docker-Content-Digest", self.told),)
            return Response(headers=(("Content-Type", INDEX), *told), body=self.index)
        if "/manifests/" in request.path:
            return Response(headers=(("Content-Type", MANIFEST),), body=self.manifest)
        return Response(body=b"{}")


PLACES = ["manifest", "config", "layer", "last layer", "header"]
LINES = {name for name, value in HOSTILE.items() if isinstance(value, str) and "\n" not in value}


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place in PLACES for name in HOSTILE if place != "header" or name in LINES]
)
def test_a_digest_that_is_none_is_refused(tmp_path, place, name):
    with recording(Lying(place, HOSTILE[name])) as registry:
        registries = HttpRegistries({"HOME": str(tmp_path)}, LocalRunner())
        ref = ImageRef.parse(f"127.0.0.1:{registry.port}/team/app:1")
        with pytest.raises(DeployError) as caught:
            verify_carrier(found_in_registry(look_up(ref, registries)))
        assert caught.value.exit_code in {2, 12}
        assert registry.asked
        for one in registry.asked:
            assert ASKED.fullmatch(one.path), one.path


@pytest.mark.parametrize(
    "tag", ["../x", "..", ".x", "a/b", "a%2fb", "a?b", "a#b", "-x", "a b", "a\r\nb", "x" * 129, ""]
)
def test_a_tag_that_is_none_is_refused(tag):
    with pytest.raises(UnusableInputError):
        ImageRef.parse(f"r.test/team/app:{tag}")
