"""Help, version and usage errors load click and the standard library, nothing heavier."""

import subprocess
import sys

import pytest

HEAVY = ("docker", "nomad", "requests", "urllib3", "jinja2", "yaml", "rich")

RUN = """
import sys
sys.argv = ["mlops-deploy", *{args}]
from mlops_deploy.__main__ import main
try:
    main()
except SystemExit as ended:
    code = ended.code
print("code", code)
print("heavy", *(name for name in {heavy} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["no-such-command"], 2),
        (["build-model", "--help"], 0),
        (["check", "--no"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_start_up_loads_nothing_heavy(args: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(args=args, heavy=HEAVY)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == [f"code {code}", "heavy"]


def test_the_list_of_heavy_modules_can_be_met() -> None:
    run = RUN.format(args=["docs", "port"], heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "heavy yaml"


def test_help_loads_no_command_at_all() -> None:
    run = (
        RUN.format(args=["--help"], heavy=HEAVY)
        + "print(*sorted(name for name in sys.modules if 'mlops_deploy' in name))"
    )
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1].split() == [
        "mlops_deploy", "mlops_deploy.__main__", "mlops_deploy.cli", "mlops_deploy.cli.main",
        "mlops_deploy.cli.streams", "mlops_deploy.errors",
    ]  # fmt: skip


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant() -> None:
    argv = [sys.executable, "-m", "mlops_deploy", "build-modle"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no command `build-modle`; did you mean `build-model`?" in done.stderr
