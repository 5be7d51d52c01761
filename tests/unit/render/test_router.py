import os
import subprocess
from contextlib import suppress
from dataclasses import replace

import pytest

from mlops_deploy.config.preset import find_preset
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.router import RouterSettings, render_router, router_paths
from mlops_deploy.resources import IMAGES

SETTINGS = RouterSettings(
    service="digits-test",
    listen="*:8080",
    a="digits-test-a:8080",
    b="digits-test-b:8080",
    by_name=True,
    check_path="/v2/models/digits/ready",
    paths=("/v2", "/v2/models/digits/infer", "/v2/models/digits/versions/{id12}/infer", "/v2/x.y/{id}"),
)
LOCAL = replace(SETTINGS, listen="127.0.0.1:9000", a="127.0.0.1:9001", b="[::1]:9002", by_name=False)


CLUSTER = replace(SETTINGS, listen=None, a=None, b=None, by_name=False)
TOLD = {
    "ROUTER_ADDRESS": "127.0.0.1:9000", "SLOT_A": "[fd00::1]:9001", "SLOT_A_STATE": "enabled",
    "SLOT_B": "127.0.0.1:1", "SLOT_B_STATE": "disabled",
}  # fmt: skip


def test_in_a_cluster(golden):
    golden("router-in-cluster.cfg", render_router(CLUSTER))


def test_by_name(golden):
    golden("router-by-name.cfg", render_router(SETTINGS))


def test_by_address(golden):
    golden("router-by-address.cfg", render_router(LOCAL))


@pytest.mark.haproxy
@pytest.mark.parametrize("settings", [SETTINGS, LOCAL, CLUSTER], ids=["name", "address", "cluster"])
def test_haproxy_takes_it_without_a_warning(settings, tmp_path):
    (tmp_path / "haproxy.cfg").write_text(render_router(settings))
    (tmp_path / "route.map").write_text("share_b -1\n")
    command = ["haproxy", "-c", "-f", "haproxy.cfg"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | TOLD | {"RUN": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_the_default_server_lets_pass_what_its_preset_says():
    paths = router_paths(find_preset("kserve-sklearn", IMAGES / "presets"), "digits")
    assert "/v2/models/digits/versions/{id12}/infer" in paths
    text = render_router(replace(SETTINGS, paths=paths))
    assert "acl allowed path -m str '/v2/models/digits/infer'\n" in text
    assert "acl allowed path -m reg '^/v2/models/digits/versions/[0-9a-f]{12}/infer$'\n" in text


def test_a_pattern_is_quoted_letter_by_letter():
    assert r"'^/v2/x\.y/[0-9a-f]{64}$'" in render_router(SETTINGS)


NASTY = (
    "", " ", "x y", "x\ny", "x\n    bind *:1", "x'y", 'x"y', "x\\y", "x#y", "${PATH}", "x${PATH}", "$(id)", "é",
    "\0", "x\r", "x{y}", "x" * 5000, "%[env(PATH)]",
)  # fmt: skip


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("name", ["service", "listen", "a", "b", "check_path", "paths"])
def test_no_value_can_say_more_than_itself(name, value):
    one = replace(SETTINGS, paths=("/v2",))
    for shaped in (value, f"/{value}", f"{value}:80", f"host:{value}"):
        with suppress(UnusableInputError):
            text = render_router(replace(one, **{name: (shaped,) if name == "paths" else shaped}))
            assert len(text.splitlines()) == len(render_router(one).splitlines())
            assert not set("\"'\\\n\0 #{") & set(shaped)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "8080"), ("listen", "*:0"), ("listen", "*:65536"), ("listen", "*:80,*:81"),
        ("listen", "unix@/x:1"),
        ("a", "*:80"), ("a", "host"),
        ("a", "-x:80"), ("check_path", "ready"), ("check_status", 99), ("check_status", 600),
        ("answer", 0), ("answer", 86401), ("paths", ()), ("paths", ("v2",)), ("paths", ("/{name}",)), ("service", "A"),
    ],
)  # fmt: skip
def test_what_it_cannot_hold_is_refused(name, value):
    with pytest.raises(UnusableInputError, match="router: "):
        render_router(replace(SETTINGS, **{name: value}))
