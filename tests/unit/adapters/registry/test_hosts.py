"""Names of registries."""

import pytest

from mlops_deploy.adapters.registry.hosts import Origin, credential_keys, is_loopback, registry_host, repository_path
from mlops_deploy.spec.refs import ImageRef


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("digits", ("docker.io", "library/digits")),
        ("team/digits:1", ("docker.io", "team/digits")),
        ("docker.io/digits", ("docker.io", "library/digits")),
        ("index.docker.io/digits", ("index.docker.io", "library/digits")),
        ("localhost/digits", ("localhost", "digits")),
        ("127.0.0.1:5000/digits:1", ("127.0.0.1:5000", "digits")),
        ("registry.example.com:5000/team/digits", ("registry.example.com:5000", "team/digits")),
    ],
)
def test_repository_of_a_reference(ref, expected):
    assert repository_path(ImageRef.parse(ref)) == expected


def test_docker_hub_answers_elsewhere_and_has_an_old_key():
    assert registry_host("docker.io") == "registry-1.docker.io"
    assert credential_keys("docker.io")[0] == "https://index.docker.io/v1/"
    assert registry_host("ghcr.io") == "ghcr.io"
    assert credential_keys("ghcr.io") == ("ghcr.io",)


def test_origin_has_the_scheme_s_own_port():
    assert Origin.of("https://Example.com./v2/") == Origin.of("https://example.com:443")
    assert Origin.of("https://example.com") != Origin.of("http://example.com:443")
    assert str(Origin.of("https://example.com:443/x?secret")) == "https://example.com"
    assert str(Origin.of("http://[::1]:5000")) == "http://[::1]:5000"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("127.0.0.1.example.com", False),
        ("127.example.com", False),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
        ("0x7f.1", False),
    ],
)
def test_loopback_by_name(host, expected):
    assert is_loopback(host) is expected
