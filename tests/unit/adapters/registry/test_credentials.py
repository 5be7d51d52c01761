"""Which file is believed, and which entry of it; helpers are real programs here."""

import json
import os
import time
from base64 import b64encode

import pytest

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.registry import helpers
from mlops_deploy.adapters.registry.credentials import Credentials
from mlops_deploy.errors import UnusableInputError

SECRET = "c4nary-s3cret"
HUB = "https://index.docker.io/v1/"


def entry(user, secret=SECRET):
    return {"auth": b64encode(f"{user}:{secret}".encode()).decode()}


class Machine:
    """A home with files and helpers."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.environ = {"HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(folder / "run")}
        self._monkeypatch = monkeypatch

    def write(self, path, document):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        return file

    def docker(self, **document):
        return self.write("home/.docker/config.json", document)

    def podman(self, **document):
        return self.write("run/containers/auth.json", document)

    def variable(self, document):
        self.environ["DOCKER_AUTH_CONFIG"] = document if isinstance(document, str) else json.dumps(document)

    def helper(self, name, script):
        file = self.write(f"bin/docker-credential-{name}", f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        self._monkeypatch.setenv("PATH", f"{file.parent}:{os.defpath}:/bin:/usr/bin")

    def credentials(self, registry="r.test"):
        return Credentials(registry, self.environ, LocalRunner())

    def user(self, registry="r.test", repository="team/app"):
        found = self.credentials(registry).find(repository)
        return found and found.user


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_nobody_without_files(machine):
    assert machine.user() is None


def test_user_and_password_are_found_and_not_shown(machine):
    file = machine.docker(auths={"r.test": entry("ann")})
    found = machine.credentials().find("team/app")
    assert (found.user, found.secret.reveal(), found.is_token) == ("ann", SECRET, False)
    assert found.source == f"`{file}` for `r.test`"
    assert SECRET not in repr(found)
    assert entry("ann")["auth"] not in repr(found.basic())


def test_order_of_files(machine):
    machine.docker(auths={"r.test": entry("docker")})
    assert machine.user() == "docker"
    machine.write("other/config.json", {"auths": {"r.test": entry("DOCKER_CONFIG")}})
    machine.environ["DOCKER_CONFIG"] = str(machine.folder / "other")
    assert machine.user() == "DOCKER_CONFIG"
    machine.variable({"auths": {"r.test": entry("variable")}})
    assert machine.user() == "variable"
    machine.write("home/.config/containers/auth.json", {"auths": {"r.test": entry("config")}})
    assert machine.user() == "config"
    machine.write("xdg/containers/auth.json", {"auths": {"r.test": entry("XDG_CONFIG_HOME")}})
    machine.environ["XDG_CONFIG_HOME"] = str(machine.folder / "xdg")
    assert machine.user() == "XDG_CONFIG_HOME"
    machine.podman(auths={"r.test": entry("runtime")})
    assert machine.user() == "runtime"
    chosen = machine.write("chosen.json", {"auths": {"r.test": entry("chosen")}})
    machine.environ["REGISTRY_AUTH_FILE"] = str(chosen)
    assert machine.user() == "chosen"


def test_a_file_that_does_not_know_the_registry_leaves_it_to_the_next(machine):
    machine.podman(auths={"other.test": entry("other"), "r.test": {}})
    machine.docker(auths={"r.test": entry("docker")})
    assert machine.user() == "docker"


def test_a_chosen_file_is_the_only_one(machine):
    machine.docker(auths={"r.test": entry("docker")})
    machine.environ["REGISTRY_AUTH_FILE"] = str(machine.write("chosen.json", {}))
    assert machine.user() is None
    machine.environ["REGISTRY_AUTH_FILE"] = str(machine.folder / "absent.json")
    with pytest.raises(UnusableInputError, match=r"absent\.json"):
        machine.user()


@pytest.mark.parametrize("absent", ["", " \n", "{}", '{"auths": {}}', '{"auths": {"other.test": {"auth": "YTpi"}}}'])
def test_a_variable_that_does_not_know_the_registry_leaves_it_to_docker_s_file(machine, absent):
    machine.docker(auths={"r.test": entry("docker")})
    machine.variable(absent)
    assert machine.user() == "docker"


def test_the_variable_is_told_by_its_name_and_not_shown(machine):
    machine.docker(credHelpers={"r.test": "never-asked"})
    machine.variable({"auths": {"https://r.test/v1/": entry("ann")}})
    found = machine.credentials().find("team/app")
    assert (found.user, found.secret.reveal()) == ("ann", SECRET)
    assert found.source == "`DOCKER_AUTH_CONFIG` for `https://r.test/v1/`"


def test_helpers_of_the_variable_are_those_of_whoever_runs_jobs(machine):
    machine.helper("there", 'printf \'{"Username":"helper","Secret":"x"}\'')
    machine.variable({"credHelpers": {"r.test": "there"}, "credsStore": "there", "auths": {"r.test": entry("ann")}})
    assert machine.user() == "ann"
    machine.variable({"credHelpers": {"r.test": "there"}, "credsStore": "there"})
    assert machine.user() is None


def test_a_chosen_file_counts_more_than_the_variable(machine):
    machine.variable({"auths": {"r.test": entry("variable")}})
    machine.environ["REGISTRY_AUTH_FILE"] = str(machine.write("chosen.json", {}))
    assert machine.user() is None


def test_netrc_is_not_read(machine):
    machine.write("home/.netrc", f"machine r.test login ann password {SECRET}\n").chmod(0o600)
    assert machine.user() is None


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("r.test", "r.test"),
        ("r.test:5000", "r.test:5000"),
        ("https://r.test/v1/", "r.test"),
        ("https://r.test", "r.test"),
        ("http://r.test:5000/v2/", "r.test:5000"),
        ("r.test/team", "r.test"),
        ("r.test/team/app", "r.test"),
        (HUB, "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("docker.io/team/app", "docker.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
    ],
)
def test_keys_that_name_a_registry(machine, key, registry):
    machine.docker(auths={key: entry("ann")})
    assert machine.user(registry) == "ann"


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("r.test:5000", "r.test"),
        ("r.test", "r.test:5000"),
        ("https://r.test.evil/v1/", "r.test"),
        ("https://evil/r.test/", "r.test"),
        ("r.test/tea", "r.test"),
        ("r.test/team/app/more", "r.test"),
        ("a.r.test", "r.test"),
        ("*.test", "r.test"),
        (HUB, "r.test"),
        ("docker.io.evil", "docker.io"),
        ("", "r.test"),
    ],
)
def test_keys_of_another(machine, key, registry):
    machine.docker(auths={key: entry("ann")})
    assert machine.user(registry) is None


def test_the_longest_name_wins(machine):
    machine.podman(auths={"r.test": entry("all"), "r.test/team": entry("team"), "r.test/team/app": entry("app")})
    assert [machine.user(repository=one) for one in ("team/app", "team/web", "other/app", "teams/app")] == [
        "app",
        "team",
        "all",
        "all",
    ]


@pytest.mark.parametrize(
    ("found", "user", "is_token"),
    [
        ({"identitytoken": SECRET}, "<token>", True),
        ({**entry("00000000-0000-0000-0000-000000000000", ""), "identitytoken": SECRET}, "<token>", True),
        ({"username": "ann", "password": SECRET}, "ann", False),
        ({"username": "old", "password": "old", **entry("ann")}, "ann", False),
        ({"auth": entry("ann", f"{SECRET}\0\0")["auth"]}, "ann", False),
        ({"auth": entry("ann")["auth"] + "\n"}, "ann", False),
    ],
)
def test_forms_of_an_entry(machine, found, user, is_token):
    machine.docker(auths={"r.test": found})
    identity = machine.credentials().find("team/app")
    assert (identity.user, identity.secret.reveal(), identity.is_token) == (user, SECRET, is_token)


@pytest.mark.parametrize("found", [{}, {"auth": ""}, {"username": "ann"}, {"email": "a@b"}, None, 1, [], "x"])
def test_an_empty_entry_is_nobody(machine, found):
    machine.docker(auths={"r.test": found})
    assert machine.user() is None


@pytest.mark.parametrize(
    "auth", ["not base64!", b64encode(SECRET.encode()).decode(), b64encode(b"\xff:\xfe").decode(), 17, [SECRET]]
)
def test_an_entry_that_is_no_pair_is_an_error_that_does_not_show_it(machine, auth):
    file = machine.docker(auths={"r.test": {"auth": auth}})
    with pytest.raises(UnusableInputError) as caught:
        machine.user()
    assert str(file) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert str(auth) not in str(caught.value)


BROKEN = [
    "{",
    '{"auths": {"r.test": {"auth": "c4nary-s3cret"',
    "[]",
    "1",
    "\xff",
    "[" * 100_000,
    '{"a": "c4nary-s3cret"} x',
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_an_error_with_its_place(machine, text):
    file = machine.write("home/.docker/config.json", text)
    with pytest.raises(UnusableInputError) as caught:
        machine.user()
    assert str(file) in str(caught.value)
    assert SECRET not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    "text", [*BROKEN, '{"auths": {"r.test": {"auth": "c4nary-s3cret"}}}'], ids=range(len(BROKEN) + 1)
)
def test_a_broken_variable_is_an_error_that_does_not_show_it(machine, text):
    machine.docker(auths={"r.test": entry("docker")})
    machine.variable(text)
    with pytest.raises(UnusableInputError) as caught:
        machine.user()
    assert "`DOCKER_AUTH_CONFIG`" in str(caught.value)
    assert caught.value.hint == "mend the variable, or unset it"
    assert SECRET not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize(
    "document", [{"auths": []}, {"credHelpers": "x"}, {"credsStore": ["x"]}, {"credHelpers": {"r.test": 1}}]
)
def test_members_of_another_type_are_as_if_absent(machine, document):
    machine.write("home/.docker/config.json", document)
    assert machine.user() is None


SAYS = (
    'read server; [ "$1" = get ] && printf \'{{"ServerURL":"%s","Username":"{}","Secret":"c4nary-s3cret"}}\' "$server"'
)


def test_a_helper_gets_the_registry_on_its_input(machine):
    machine.docker(credsStore="desk")
    machine.helper("desk", 'read server; printf \'{"Username":"of %s %s","Secret":"x"}\' "$1" "$server"')
    assert machine.user("r.test:5000") == "of get r.test:5000"
    assert machine.user("docker.io") == f"of get {HUB}"


def test_the_registry_s_helper_goes_before_the_store_and_that_before_the_file(machine):
    machine.helper("own", SAYS.format("own"))
    machine.helper("store", SAYS.format("store"))
    machine.docker(
        auths={"r.test": entry("file"), "s.test": entry("file")}, credHelpers={"r.test": "own"}, credsStore="store"
    )
    assert machine.user("r.test") == "own"
    assert machine.user("s.test") == "store"


def test_a_helper_s_identity_token(machine):
    machine.helper("own", SAYS.format("<token>"))
    machine.docker(credHelpers={"r.test": "own"})
    assert machine.credentials().find("team/app").is_token


def test_a_helper_that_knows_nothing_leaves_it_to_what_follows(machine):
    machine.helper("store", "echo credentials not found in native keychain; exit 1")
    machine.docker(credsStore="store", auths={"r.test": entry("file")})
    assert machine.user("r.test") == "file"
    credentials = machine.credentials("s.test")
    assert credentials.find("team/app") is None
    assert credentials.trouble == []


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo c4nary-s3cret; echo c4nary-s3cret >&2; exit 3", "ended with 3"),
        ("echo c4nary-s3cret", "printed what is no answer"),
        ("echo '[\"c4nary-s3cret\"]'", "printed what is no answer"),
        ('echo \'{"Username": 1, "Secret": "c4nary-s3cret"}\'', "printed what is no answer"),
        ('echo \'{"Secret": "c4nary-s3cret"}\'', "printed what is no answer"),
        ("printf '\\377\\376'", "printed what is no answer"),
        ("exit 0", "printed what is no answer"),
        ("kill -9 $$", "ended with -9"),
    ],
)
def test_a_helper_that_fails_is_told_of_without_what_it_printed(machine, script, told):
    machine.helper("own", script)
    machine.docker(credHelpers={"r.test": "own"})
    credentials = machine.credentials()
    assert credentials.find("team/app") is None
    assert credentials.find("team/web") is None  # asked once
    assert len(credentials.trouble) == 1
    assert credentials.trouble[0].endswith(f"`docker-credential-own` {told}")
    assert SECRET not in str(credentials.trouble)


def test_a_helper_that_hangs_is_ended(machine, monkeypatch):
    assert helpers._SECONDS == 10
    monkeypatch.setattr(helpers, "_SECONDS", 2)
    pid = machine.folder / "pid"
    machine.helper("own", f"echo $$ > {pid}; exec sleep 1000")
    machine.docker(credHelpers={"r.test": "own"})
    begun = time.monotonic()
    credentials = machine.credentials()
    assert credentials.find("team/app") is None
    assert time.monotonic() - begun < 30
    assert credentials.trouble == ["the credential helper `docker-credential-own` did not answer in 2 s"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_helper_that_is_absent(machine):
    machine.docker(credHelpers={"r.test": "absent"})
    credentials = machine.credentials()
    assert credentials.find("team/app") is None
    assert credentials.trouble == ["the credential helper `docker-credential-absent` cannot be run"]


@pytest.mark.parametrize("name", ["../../evil", "a b", "a/b", "-x", "", "\0"])
def test_a_helper_s_name_is_a_name(machine, name):
    ran = machine.folder / "ran"
    machine.write("home/evil", f"#!/bin/sh\ntouch {ran}").chmod(0o755)
    machine.docker(credHelpers={"r.test": name})
    credentials = machine.credentials()
    assert credentials.find("team/app") is None
    assert len(credentials.trouble) == 1
    assert not ran.exists()
