"""Reading `WWW-Authenticate`."""

import time

import pytest

from mlops_deploy.adapters.registry.challenges import Basic, Bearer, challenge, united


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            Bearer(
                realm="https://auth.docker.io/token",
                service="registry.docker.io",
                scope=("repository:a/b:pull,push",),
            ),
        ),
        (
            'Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"',
            Bearer(realm="https://public.ecr.aws/token/", service="public.ecr.aws", scope=("aws",)),
        ),
        ("bearer  realm = https://a/t , service=s", Bearer(realm="https://a/t", service="s")),
        ('bearer  realm = "https://a/t" , service=s', Bearer(realm="https://a/t", service="s")),
        ('Basic realm="x, y=z", Bearer realm="https://a/t"', Bearer(realm="https://a/t")),
        ('Bearer realm="https://a/\\"q\\"",error="invalid_token"', Bearer(realm='https://a/"q"')),
        ('Bearer scope="a:b:c d:e:f",realm="https://a"', Bearer(realm="https://a", scope=("a:b:c", "d:e:f"))),
        ('Bearer realm="https://a",realm="https://b"', Bearer(realm="https://a")),
        ('Negotiate abc==, Basic realm="x"', Basic()),
        ("Negotiate, BASIC", Basic()),
        ('Digest realm="x"', None),
        ('Bearer service="without realm"', None),
        ('Bearer realm="never closed', None),
        ("", None),
        (',,, ="" "', None),
    ],
)
def test_challenge(header, expected):
    assert challenge(header) == expected


@pytest.mark.parametrize("junk", ["a", '"', 'a="\\', "a=", " ,", "a ", "a=b ", 'a="', "\\", "=", "\t", "a,", "a\t=\t"])
def test_junk_of_any_length_is_read_at_once(junk):
    begun = time.monotonic()
    challenge(junk * 100_000)
    assert time.monotonic() - begun < 10


def test_scopes_of_one_resource_become_one():
    asked, challenged = ("repository:a:pull",), ("repository:a:pull,push", "aws", "registry:catalog:*")
    assert united(asked, challenged) == ("repository:a:pull,push", "aws", "registry:catalog:*")
