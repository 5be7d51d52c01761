"""Who gets to know a credential, and who is asked at all; the servers' own records are the proof."""

import json
import threading
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from mlops_deploy.adapters.registry.repository import HttpRepository
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.spec.refs import Digest
from tests.fakes.recording import Response, recording
from tests.unit.adapters.registry.network import PUBLIC, SCOPE, Network, channel_to

PASSWORD = "c4nary-password"
TOKEN = "c4nary-token"
BASIC = "Basic " + b64encode(f"ann:{PASSWORD}".encode()).decode()


@pytest.fixture
def home(tmp_path):
    """The environment of somebody who has logged in to every registry on loopback."""

    def logged_in(*hosts, **entry):
        entry = entry or {"auth": BASIC.removeprefix("Basic ")}
        file = tmp_path / ".docker" / "config.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"auths": dict.fromkeys(hosts, entry)}))
        return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    return logged_in


def challenge(realm, **more):
    fields = {"realm": realm, "service": "s", **more}
    text = ",".join(f'{name}="{value}"' for name, value in fields.items())
    return Response(status=401, headers=(("WWW-Authenticate", f"Bearer {text}"),))


def token(**fields):
    return Response(body=json.dumps({"token": TOKEN, "expires_in": 300, **fields}).encode())


def ask(channel, path="/v2/team/app/tags/list", scope=SCOPE):
    answer = channel.request("GET", path, step="a test", scope=scope, expect={200})
    answer.read()


class Guarded:
    """A registry that gives what is there to who brings the token; `answers` takes precedence, by path."""

    def __init__(self, **answers):
        self.realm = "/token"
        self.answers = answers

    def __call__(self, request):
        path = request.path.partition("?")[0]
        if found := self.answers.get(path.strip("/")):
            return found(request)
        if path == "/token":
            return token()
        return Response() if request.authorization == f"Bearer {TOKEN}" else challenge(self.realm)


def test_a_token_is_fetched_with_the_password_once_and_for_all_threads(home):
    with recording(Guarded()) as registry:
        host = f"127.0.0.1:{registry.port}"
        channel = channel_to(host, home(host))
        ask(channel)
        threads = [threading.Thread(target=ask, args=(channel,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fetched = [one for one in registry.asked if one.path.startswith("/token")]
        assert [one.authorization for one in fetched] == [BASIC]
        assert fetched[0].path == "/token?service=s&scope=repository%3Ateam%2Fapp%3Apull%2Cpush"
        rest = [one for one in registry.asked if one.path == "/v2/team/app/tags/list"]
        assert [one.authorization for one in rest] == [None] + [f"Bearer {TOKEN}"] * 9


def test_a_scope_of_two_repositories_and_one_that_the_registry_asks_for(home):
    guarded = Guarded()
    guarded.answers["v2/team/app/tags/list"] = lambda request: (
        Response() if request.authorization else challenge("/token", scope="aws")
    )
    with recording(guarded) as registry:
        host = f"127.0.0.1:{registry.port}"
        ask(channel_to(host, home()), scope=("repository:team/app:pull,push", "repository:team/web:pull"))
        (fetched,) = (one.path for one in registry.asked if one.path.startswith("/token"))
    assert fetched.endswith(
        "scope=repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Ateam%2Fweb%3Apull&scope=aws"
    )


def test_nobody_gets_a_token_too(home):
    with recording(Guarded()) as registry:
        ask(channel_to(f"127.0.0.1:{registry.port}", home()))
        assert {one.authorization for one in registry.asked} == {None, f"Bearer {TOKEN}"}


def test_an_identity_token_is_posted(home):
    guarded = Guarded(token=lambda _: Response(body=json.dumps({"access_token": TOKEN}).encode()))
    with recording(guarded) as registry:
        host = f"127.0.0.1:{registry.port}"
        ask(channel_to(host, home(host, identitytoken="c4nary-identity")))
        (fetched,) = (one for one in registry.asked if one.path.startswith("/token"))
    assert (fetched.method, fetched.path, fetched.authorization) == ("POST", "/token", None)
    assert fetched.body == (
        b"service=s&grant_type=refresh_token&client_id=mlops-deploy"
        b"&scope=repository%3Ateam%2Fapp%3Apull%2Cpush&refresh_token=c4nary-identity"
    )


def test_a_registry_that_takes_passwords_alone(home):
    def guarded(request):
        if request.authorization == BASIC:
            return Response()
        return Response(status=401, headers=(("WWW-Authenticate", 'Basic realm="a, b"'),))

    with recording(guarded) as registry:
        host = f"127.0.0.1:{registry.port}"
        channel = channel_to(host, home(host))
        ask(channel)
        ask(channel)
        asked = [one for one in registry.asked if one.path.endswith("list")]
        assert [one.authorization for one in asked] == [None, BASIC, BASIC]
        with pytest.raises(UnusableInputError) as caught:
            ask(channel_to(host, home()))
        assert caught.value.hint == f"log in with `docker login {host}`"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"expires_in": 100}, 75),
        ({"expires_in": 3000}, 2970),
        ({"expires_in": None}, 45),
        ({"expires_in": 0}, 45),
        ({"expires_in": -1}, 45),
        ({"expires_in": "300"}, 45),
        ({"expires_in": 1e300}, 3570),
        ({"expires_in": 4}, 3),
    ],
)
def test_a_token_is_renewed_before_it_ends(home, fields, seconds):
    now = [1000.0]
    with recording(Guarded(token=lambda _: token(**fields))) as registry:
        host = f"127.0.0.1:{registry.port}"
        channel = channel_to(host, home(host), now=lambda: now[0])
        ask(channel)
        now[0] += seconds - 0.5
        ask(channel)
        assert sum(one.path.startswith("/token") for one in registry.asked) == 1
        now[0] += 1
        ask(channel)
        assert sum(one.path.startswith("/token") for one in registry.asked) == 2


def test_a_token_that_is_not_taken_any_more_is_renewed(home):
    given = []

    def tokens(_):
        given.append(f"token-{len(given)}")
        return token(token=given[-1])

    good = ["token-0"]

    def tags(request):
        return Response() if request.authorization == f"Bearer {good[0]}" else challenge("/token")

    with recording(Guarded(token=tokens, **{"v2/team/app/tags/list": tags})) as registry:
        channel = channel_to(f"127.0.0.1:{registry.port}", home())
        ask(channel)
        good[0] = "token-1"
        ask(channel)
        good[0] = "none"
        with pytest.raises(UnusableInputError):
            ask(channel)
    assert len(given) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"{", b"[]", b'"c4nary-token"', b'{"token": 1}', b'{"token": ""}', b'{"token": "c4nary-token\\r\\nX: y"}',
        b'{"token": "c4nary-token \xc3\xa9"}', b'{"token": "' + b"x" * 70_000 + b'"}', b"[" * 50_000, b"x" * 2_000_000,
    ],
    ids=range(11),
)  # fmt: skip
def test_an_answer_without_a_token_that_can_be_used(home, answer):
    with (
        recording(Guarded(token=lambda _: Response(body=answer))) as registry,
        pytest.raises(UnreachableError) as caught,
    ):
        ask(channel_to(f"127.0.0.1:{registry.port}", home()))
    assert "c4nary" not in f"{caught.value}{caught.value.hint}{caught.value.detail}"


# P05: the credential stays with its host.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_port_gets_no_token_also_when_it_asks_for_one(home, status):
    with recording(lambda _: challenge("/token")) as other:
        to = Response(status=status, headers=(("Location", f"http://127.0.0.1:{other.port}/x"),))
        moved = {"v2/team/app/blobs/1": lambda request: to if request.authorization else challenge("/token")}
        with recording(Guarded(**moved)) as registry:
            host = f"127.0.0.1:{registry.port}"
            with pytest.raises(UnusableInputError):
                ask(channel_to(host, home(host)), "/v2/team/app/blobs/1")
        assert [one.path for one in other.asked] == ["/x"]
        assert TOKEN not in other.text()
        assert BASIC not in other.text()


def test_a_host_that_we_are_sent_to_does_not_name_the_token_server(home):
    """What it asks for is not heard: our password goes where the registry itself says."""
    with recording(lambda request: challenge(f"http://{request.headers['Host']}/token")) as other:
        to = Response(status=307, headers=(("Location", f"http://127.0.0.1:{other.port}/x"),))
        with recording(Guarded(**{"v2/team/app/blobs/1": lambda _: to})) as registry:
            host = f"127.0.0.1:{registry.port}"
            with pytest.raises(UnusableInputError):
                ask(channel_to(host, home(host)), "/v2/team/app/blobs/1")
        assert [one.path for one in other.asked] == ["/x"]
        assert PASSWORD not in other.text()


def test_an_identity_token_is_no_password(home):
    basic = Response(status=401, headers=(("WWW-Authenticate", 'Basic realm="r"'),))
    with recording(lambda _: basic) as registry:
        host = f"127.0.0.1:{registry.port}"
        with pytest.raises(UnusableInputError):
            ask(channel_to(host, home(host, identitytoken=PASSWORD)))
        assert {one.authorization for one in registry.asked} == {None}


def test_a_redirect_back_gets_the_token_again(home):
    moved = Guarded()
    with recording(moved) as registry:
        there = Response(status=307, headers=(("Location", f"http://127.0.0.1:{registry.port}/v2/there"),))
        moved.answers["v2/here"] = lambda request: there if request.authorization else challenge("/token")
        ask(channel_to(f"127.0.0.1:{registry.port}", home()), "/v2/here")


@pytest.mark.parametrize("address", ["127.0.0.2", "localhost", "0.0.0.0", "[::1]", "0x7f.1", "2130706433", "127.1"])  # noqa: S104
def test_nothing_arrives_at_another_name_of_this_machine(home, address):
    with recording(lambda _: Response(), address="::1" if address == "[::1]" else "0.0.0.0") as other:  # noqa: S104
        url = f"http://{address}:{other.port}/x"
        moved = Guarded(**{"v2/moved": lambda _: Response(status=307, headers=(("Location", url),))})
        moved.answers["v2/realm"] = lambda _: challenge(url)
        with recording(moved) as registry:
            host = f"127.0.0.1:{registry.port}"
            channel = channel_to(host, home(host))
            for path in ("/v2/moved", "/v2/realm"):
                with pytest.raises(UnusableInputError):
                    ask(channel, path)
            for location in (url, f"//{address}:{other.port}/x"):
                with pytest.raises(UnusableInputError):
                    channel.next(location, f"http://{host}/v2/team/app/blobs/uploads/")
        assert (other.connections, other.asked) == (0, [])


def test_a_loop_of_redirects_ends(home):
    to = Response(status=307, headers=(("Location", "/v2/loop"),))
    with recording(lambda _: to) as registry:
        with pytest.raises(DeployError, match="redirects"):
            ask(channel_to(f"127.0.0.1:{registry.port}", home()), "/v2/loop")
        assert len([one for one in registry.asked if one.path == "/v2/loop"]) < 10


def test_a_token_server_that_redirects_elsewhere_gets_followed_without_nobody(home):
    with recording(lambda _: token()) as other:
        to = Response(status=307, headers=(("Location", f"http://127.0.0.1:{other.port}/token"),))
        with recording(Guarded(token=lambda _: to)) as registry:
            host = f"127.0.0.1:{registry.port}"
            with pytest.raises(UnusableInputError):
                ask(channel_to(host, home(host)))
        assert other.asked == []


def test_a_token_server_may_redirect_at_home(home):
    def moved(request):
        return (
            token()
            if request.path.startswith("/token/")
            else Response(status=307, headers=(("Location", f"/token/{request.path.removeprefix('/token')}"),))
        )

    with recording(lambda request: moved(request) if "/token" in request.path else Guarded()(request)) as registry:
        host = f"127.0.0.1:{registry.port}"
        ask(channel_to(host, home(host)))
        assert [one.authorization for one in registry.asked if "/token" in one.path] == [BASIC, BASIC]


# P06: names that mean what they should not, over plain HTTP so that nothing but the address can be the reason.


@pytest.fixture
def network(monkeypatch):
    return Network.instead_of_the_real_one(monkeypatch)


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",), ("10.0.0.1",), ("169.254.169.254",), ("::1",), ("::ffff:10.0.0.1",), ("fd00:ec2::254",),
        (PUBLIC, "10.0.0.1"), ("10.0.0.1", PUBLIC),
    ],
)  # fmt: skip
def test_a_public_registry_reaches_nothing_within(home, network, addresses):
    network.names = {"r.test": [[PUBLIC]], "inner.test": [addresses]}
    with recording(lambda _: Response()) as other:
        url = f"http://inner.test:{other.port}/x"
        moved = Guarded(**{"v2/moved": lambda _: Response(status=307, headers=(("Location", url),))})
        moved.answers["v2/realm"] = lambda _: challenge(url)
        with recording(moved) as registry:
            host = f"r.test:{registry.port}"
            channel = channel_to(host, home(), base=f"http://{host}")
            for path in ("/v2/moved", "/v2/realm"):
                with pytest.raises(UnusableInputError, match="is not public"):
                    ask(channel, path)
        assert (other.connections, other.asked) == (0, [])
        assert {address for address, _ in network.dialled} == {PUBLIC}


def test_what_was_looked_at_is_what_is_connected_to(home, network):
    """A name that means a public address at the first look, and this machine at the second, is looked at once."""
    network.names = {"r.test": [[PUBLIC]], "cdn.test": [["8.8.8.8"], ["127.0.0.1"]]}
    with recording(lambda _: Response(body=b"blob")) as other:
        to = Response(status=307, headers=(("Location", f"http://cdn.test:{other.port}/x"),))
        with recording(lambda _: to) as registry:
            host = f"r.test:{registry.port}"
            ask(channel_to(host, home(), base=f"http://{host}"))
        assert network.dialled[-1] == ("8.8.8.8", other.port)
        assert other.asked[0].headers["Host"] == f"cdn.test:{other.port}"


def test_a_name_that_turns_inward_is_refused_with_the_next_connection(home, network):
    network.names = {"r.test": [[PUBLIC]], "cdn.test": [["8.8.8.8"], ["127.0.0.1"]]}
    close = (("Connection", "close"),)
    with recording(lambda _: Response(headers=close)) as other:
        to = Response(status=307, headers=(("Location", f"http://cdn.test:{other.port}/x"),))
        with recording(lambda _: to) as registry:
            channel = channel_to(host := f"r.test:{registry.port}", home(), base=f"http://{host}")
            ask(channel)
            with pytest.raises(UnusableInputError, match=r"127\.0\.0\.1"):
                ask(channel)
        assert len(other.asked) == 1


def test_a_private_registry_works_with_its_private_token_server_and_blob_store(home, network):
    network.names = {"r.corp": [["10.1.0.5"]], "auth.corp": [["10.1.0.6"]], "meta.corp": [["169.254.169.254"]]}
    with recording(lambda _: token()) as auth:
        guarded = Guarded()
        guarded.realm = f"http://auth.corp:{auth.port}/token"
        meta = Response(status=307, headers=(("Location", f"http://meta.corp:{auth.port}/latest"),))
        guarded.answers["v2/meta"] = lambda _: meta
        with recording(guarded) as registry:
            channel = channel_to(host := f"r.corp:{registry.port}", home(), base=f"http://{host}")
            ask(channel)
            with pytest.raises(UnusableInputError, match=r"169\.254"):
                ask(channel, "/v2/meta")
        assert [one.path.partition("?")[0] for one in auth.asked] == ["/token"]


def test_a_registry_that_is_public_at_first_does_not_become_private(home, network):
    network.names = {"r.test": [[PUBLIC], ["10.0.0.1"]], "inner.test": [["10.0.0.9"]]}
    with recording(lambda _: Response()) as other:
        to = Response(status=307, headers=(("Location", f"http://inner.test:{other.port}/x"), ("Connection", "close")))
        with recording(lambda _: to) as registry:
            channel = channel_to(host := f"r.test:{registry.port}", home(), base=f"http://{host}")
            for _ in range(3):
                with pytest.raises(UnusableInputError):
                    ask(channel)
        assert other.asked == []


def test_a_password_goes_to_another_host_by_https_alone(home, network):
    network.names = {"r.test": [[PUBLIC]], "auth.test": [["8.8.8.8"]]}
    with recording(lambda _: token()) as auth:
        guarded = Guarded()
        guarded.realm = f"http://auth.test:{auth.port}/token"
        with recording(guarded) as registry:
            host = f"r.test:{registry.port}"
            with pytest.raises(UnusableInputError, match="https"):
                ask(channel_to(host, home(host), base=f"http://{host}"))
            with pytest.raises(UnusableInputError, match="https"):
                ask(channel_to(host, home(host, identitytoken=PASSWORD), base=f"http://{host}"))
            assert auth.asked == []
            ask(channel_to(host, home(), base=f"http://{host}"))  # nobody has nothing to lose
            assert len(auth.asked) == 1


# What is said when it fails.


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_the_denied_are_told_who_they_are_and_what_to_do(home, status):
    with recording(Guarded(token=lambda _: Response(status=status))) as registry:
        host = f"127.0.0.1:{registry.port}"
        with pytest.raises(UnusableInputError) as caught:
            ask(channel_to(host, home()))
        told = f"the token server `http://{host}` answered {status}"
        assert str(caught.value) == f"the registry `{host}` does not let anybody push to `team/app`: {told}"
        assert caught.value.hint == f"log in with `docker login {host}`"
        with pytest.raises(UnusableInputError) as caught:
            ask(channel_to(host, home(host)))
        assert "does not let who we are push to `team/app`" in str(caught.value)
        assert f"config.json` for `{host}` says" in caught.value.hint


def test_a_helper_that_failed_is_told_of_when_we_are_denied(home):
    environ = home()
    with recording(Guarded(token=lambda _: Response(status=401))) as registry:
        host = f"127.0.0.1:{registry.port}"
        file = Path(environ["HOME"], ".docker", "config.json")
        file.write_text(json.dumps({"credHelpers": {host: "absent"}}))
        with pytest.raises(UnusableInputError) as caught:
            ask(channel_to(host, environ))
    assert caught.value.detail == ("the credential helper `docker-credential-absent` cannot be run",)


def test_what_a_registry_writes_loses_our_secrets(home):
    def echo(request):
        if not request.authorization:
            return challenge("/token")
        errors = {"errors": [{"code": "DENIED", "message": f"you sent {request.authorization}"}]}
        return Response(status=403, body=json.dumps(errors).encode())

    with recording(Guarded(**{"v2/team/app/tags/list": echo})) as registry:
        host = f"127.0.0.1:{registry.port}"
        with pytest.raises(UnusableInputError) as caught:
            ask(channel_to(host, home(host)))
    assert "you sent Bearer [redacted]" in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_token_server_is_asked_again(home, status):
    answers = [Response(status=status, headers=(("Retry-After", "0"),)), token()]
    with recording(Guarded(token=lambda _: answers.pop(0))) as registry:
        ask(channel_to(f"127.0.0.1:{registry.port}", home()))
    assert answers == []


def test_an_upload_elsewhere_is_sent_without_the_token(home):
    """A registry may have blobs sent to a store of its own; that gets the bytes, and nothing that proves who we are."""
    stored = []

    def store(request):
        stored.append(request)
        return Response(status=201 if request.method == "PUT" else 202, headers=(("Location", request.path),))

    with recording(store) as other:
        place = Response(status=202, headers=(("Location", f"http://127.0.0.1:{other.port}/u?_state=1"),))
        start = {"v2/team/app/blobs/uploads": lambda one: place if one.authorization else challenge("/token")}
        with recording(Guarded(**start)) as registry:
            host = f"127.0.0.1:{registry.port}"
            repository = HttpRepository(channel_to(host, home(host)), f"{host}/team/app", "team/app")
            upload = repository.upload(4, lambda: [b"blob"])
            upload.write(memoryview(b"blob"))
            upload.commit(Digest(sha256(b"blob").hexdigest()))
    assert [(one.method, one.body) for one in stored] == [("PATCH", b"blob"), ("PUT", b"")]
    assert {one.authorization for one in stored} == {None}
