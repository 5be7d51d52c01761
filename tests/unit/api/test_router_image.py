from dataclasses import dataclass

import pytest

from mlops_deploy.api import router_image
from mlops_deploy.api.router_image import RECIPE, find_or_build, machine_secrets, own_sources, router_tag
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.spec.recipe import ImageFacts
from mlops_deploy.spec.refs import Digest

ID = Digest("ab" * 32)
TARGETS = """deb https://mirror.test/debian bookworm main
deb https://mirror.test/debian bookworm-updates main
deb https://mirror.test/security bookworm-security main
deb https://mirror.test/debian trixie main
deb https://mirror.test/debian bookworm-backports main
"""


@dataclass
class Done:
    code: int = 0
    out: str = ""
    err: str = ""


class Machine:
    """A machine whose apt says what it is told to."""

    def __init__(self, targets=TARGETS, code=0):
        self.targets, self.code, self.asked = targets, code, []

    def run(self, argv, **_):
        self.asked.append(argv[0])
        settings = 'Acquire::http::Proxy "http://user:secret@proxy.test";\n'
        return Done(code=self.code, out=self.targets if argv[0] == "apt-get" else settings)


class Engine:
    def __init__(self, *there):
        self.there = set(there)

    def image_id(self, ref):
        return ID if ref in self.there else None


class Builder:
    def __init__(self, error=None):
        self.recipes, self.error = [], error

    def build(self, recipe, on_line):
        self.recipes.append(recipe)
        if self.error:
            raise self.error
        return ID

    def facts(self, ref):
        return ImageFacts(id=ID, size=1, labels={}) if ref == "mlops-base:bookworm" else None


class Story:
    def __init__(self):
        self.told = []

    def say(self, text):
        self.told.append(text)


@pytest.fixture
def debian(tmp_path, monkeypatch):
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    monkeypatch.setattr(router_image, "_OS_RELEASE", tmp_path / "os-release")
    monkeypatch.setattr(router_image, "_CA_BUNDLE", tmp_path / "ca.crt")
    return tmp_path


def test_an_image_that_is_there_is_not_built():
    builder = Builder()
    found = find_or_build(Engine(str(router_tag())), builder, Machine(), Story())
    assert (found.ref, found.local, builder.recipes) == (str(router_tag()), True, [])


def test_the_name_follows_from_the_files_alone(tmp_path, monkeypatch):
    before = router_tag()
    for path in RECIPE.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            target = tmp_path / path.relative_to(RECIPE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    monkeypatch.setattr(router_image, "RECIPE", tmp_path)
    assert router_tag() == before
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    assert router_tag() != before


def test_a_machine_of_the_same_debian_lends_its_mirrors_as_secrets(debian):
    builder, story = Builder(), Story()
    find_or_build(Engine(), builder, Machine(), story)
    (recipe,) = builder.recipes
    assert recipe.args == {"BASE": "mlops-base:bookworm"}
    assert recipe.tag == router_tag()
    assert set(recipe.secrets) == {"apt.conf", "sources.list", "ca.crt"}
    assert recipe.secrets["sources.list"].reveal() == "".join(TARGETS.splitlines(keepends=True)[:3])
    assert 'Proxy "http://user:secret@proxy.test"' in recipe.secrets["apt.conf"].reveal()
    assert "user:secret" not in repr(recipe)
    assert len(story.told) == 1


@pytest.mark.parametrize("machine", [Machine(""), Machine(code=100), Machine(TARGETS.splitlines()[3])])
def test_a_machine_without_that_suite_lends_nothing(debian, machine):
    assert machine_secrets(machine) == {}


@pytest.mark.parametrize(
    "text", [None, "ID=debian\nVERSION_CODENAME=trixie\n", "ID=ubuntu\nVERSION_CODENAME=bookworm\n"]
)
def test_another_system_is_not_asked(debian, text):
    (debian / "os-release").unlink()
    if text:
        (debian / "os-release").write_text(text)
    machine = Machine()
    assert machine_secrets(machine) == {}
    assert machine.asked == []


def test_without_the_suite_itself_its_updates_are_worth_nothing():
    assert own_sources("deb https://mirror.test/debian bookworm-updates main\n") == ""


def test_a_step_that_fails_is_told_in_the_words_of_the_router():
    error = UnusableInputError("these packages …", hint="the constraints …", detail=("E: no haproxy",))
    with pytest.raises(UnreachableError, match="router image") as caught:
        find_or_build(Engine(), Builder(error), Machine(), Story())
    assert "haproxy" in caught.value.hint
    assert caught.value.detail == ("E: no haproxy",)


def test_an_engine_that_is_gone_is_told_as_it_is():
    error = UnreachableError("no Docker Engine answers", hint="start Docker")
    with pytest.raises(UnreachableError, match="no Docker Engine answers"):
        find_or_build(Engine(), Builder(error), Machine(), Story())
