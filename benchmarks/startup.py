"""`mlops-deploy --help` beside a click program that does nothing else."""

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.table import Row, compared, seconds

BARE = """
import click
@click.group()
def app(): pass
@app.command()
def build_model(): "Build."
app()
"""


def rows() -> Iterator[Row]:
    def run(*arguments: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True))

    yield compared(
        "`mlops-deploy --help` to a bare click program",
        lambda: run("-m", "mlops_deploy", "--help"),
        lambda: run("-c", BARE, "--help"),
        goal="<= 1.5",
        times=21,
    )
