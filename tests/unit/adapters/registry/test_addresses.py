"""Where a registry may send us: every notation of an address that is not to be asked."""

import pytest

from mlops_deploy.adapters.registry.addresses import check_resolved, check_url
from mlops_deploy.adapters.registry.hosts import Origin
from mlops_deploy.errors import UnusableInputError

HOME = Origin.of("https://registry.example.com")
BASE = "https://registry.example.com/v2/a/blobs/uploads/"

OWN = [
    "127.0.0.1", "127.1", "127.9.9.9", "0", "0x7f.1", "0x7f000001", "0X7F000001", "2130706433",
    "017700000001", "0177.0.0.1", "127.0.0.1.", "1.2.3", "1.2.3.4.5", "256.1.1.1", "169.254.169.254",
    "169.254.1.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "0.1.2.3",
    "100.100.100.200", "[::1]", "[::]", "[::ffff:10.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]",
    "[::127.0.0.1]", "[::ffff:a9fe:a9fe]", "[0:0:0:0:0:0:0:1]", "[fe80::1]", "[fe80::1%25eth0]", "[ff02::1]",
    "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]",
    "[fd00:ec2::254]", "[2001:db8::1]", "[::1", "[1.2.3.4]", "localhost", "LOCALHOST", "localhost.",
    "a.localhost", "192.0.0.192", "[fec0::1]",
]  # fmt: skip
OWN.append("0.0.0.0")  # noqa: S104 - to be refused
PRIVATE = [
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "[fc00::1]", "[fd12::1]",
    "[64:ff9b::a00:1]",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "172.32.0.1", "[2606:4700::1111]", "[64:ff9b::808:808]", "cdn.example.org", "0x7f.example.org",
    "a_b.c",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN + PRIVATE)
def test_addresses_of_this_machine_and_its_surroundings_are_refused(host):
    with pytest.raises(UnusableInputError):
        check_url(f"https://{host}/x", BASE, HOME)


@pytest.mark.parametrize("host", OWN)
def test_this_machine_is_refused_also_to_a_private_registry(host):
    with pytest.raises(UnusableInputError):
        check_url(f"https://{host}/x", BASE, HOME, near=True)


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_are_followed(host):
    assert check_url(f"https://{host}/x?y=z", BASE, HOME) == f"https://{host}/x?y=z"


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_registry_may_name_its_neighbours(host):
    assert check_url(f"https://{host}/x", BASE, HOME, near=True) == f"https://{host}/x"


@pytest.mark.parametrize(
    "url",
    [
        "http://registry.example.com/x",  # the same host, but in the clear
        "http://cdn.example.org/x",
        "//user:word@registry.example.com/x",
        "https://user@cdn.example.org/",
        "https://registry.example.com@127.0.0.1/",
        "https://@127.0.0.1/",
        "ftp://cdn.example.org/",
        "file:///etc/passwd",
        "https://cdn.example.org\\@127.0.0.1/",
        "\\\\127.0.0.1\\x",
        "https://cdn.example.org:99999/",
        "https://cdn.example.org:x/",
        "https://cdn.example.org/a b",
        "https://cdn.example.org/\r\nHost: x",
        "https://1\u0662\u0667.0.0.1/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://127%2e0%2e0%2e1/",
        "",
        "https://cdn.example.org/" + "x" * 20_000,
    ],
)
def test_what_is_no_url_to_follow(url):
    with pytest.raises(UnusableInputError) as caught:
        check_url(url, BASE, HOME)
    assert "word" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    ("url", "base", "home", "expected"),
    [
        ("/v2/a?_s=1", "https://registry.example.com/v2/", "https://registry.example.com", "https://registry.example.com:443/v2/a?_s=1"),
        ("?_s=2", "https://r.test:5000/v2/u", "https://r.test:5000", "https://r.test:5000/v2/u?_s=2"),
        ("https://r.test/v2/u", "https://r.test:5000/", "https://r.test:5000", "https://r.test:5000/v2/u"),  # port lost
        ("https://r.test:5001/t", "https://r.test:5000/", "https://r.test:5000", "https://r.test:5001/t"),
        ("http://127.0.0.1/v2/u", "http://127.0.0.1:5000/", "http://127.0.0.1:5000", "http://127.0.0.1:5000/v2/u"),
        ("http://127.0.0.1:5001/token", "http://127.0.0.1:5000/", "http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
        ("https://cdn.example.org/x#part", "http://127.0.0.1:5000/", "http://127.0.0.1:5000", "https://cdn.example.org/x"),
        ("https://10.0.0.5:5001/t", "https://10.0.0.5:5000/", "https://10.0.0.5:5000", "https://10.0.0.5:5001/t"),
    ],
)  # fmt: skip
def test_the_registry_s_own_host_is_followed(url, base, home, expected):
    found = check_url(url, base, Origin.of(home))
    assert Origin.of(found) == Origin.of(expected)
    assert found.partition("://")[2].partition("/")[2] == expected.partition("://")[2].partition("/")[2]


def test_relative_to_where_a_redirect_has_led():
    assert check_url("/b", "https://cdn.example.org/a", HOME) == "https://cdn.example.org/b"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "10.0.0.1", "::ffff:10.0.0.1"]
)
def test_what_a_name_resolves_to_is_refused_when_any_of_it_is_not_public(address):
    with pytest.raises(UnusableInputError):
        check_resolved(["8.8.8.8", address], Origin.of("https://cdn.example.org"), HOME, near=False)


def test_a_refusal_shows_the_host_and_nothing_of_the_query():
    with pytest.raises(UnusableInputError) as caught:
        check_url("https://10.0.0.1/upload?_state=s3cret", BASE, HOME)
    assert "`https://10.0.0.1`" in str(caught.value)
    assert "s3cret" not in str(caught.value)
