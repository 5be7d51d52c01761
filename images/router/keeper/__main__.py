"""`python3 -I -S KEEPER init` runs the router, `python3 -I -S KEEPER serve` answers one stream; see docs/keeper.md."""

import os
import sys

USAGE = "usage: python3 -I -S KEEPER init|serve, with the variables STATE and RUN"


def main() -> int:
    """Do what the one argument says; its exit code."""
    state, run = os.environ.get("STATE"), os.environ.get("RUN")
    match sys.argv[1:]:
        case ["serve"] if state and run:
            from mlops_keeper.serve import serve  # noqa: PLC0415 - each way loads only what it needs

            return serve(state, run)
        case ["init"] if state and run:
            from mlops_keeper.init import init  # noqa: PLC0415 - as above

            return init(state, run)
        case _:
            sys.stderr.write(USAGE + "\n")
            return 2


sys.exit(main())
