"""`python -m mlops_server`: serve the model that the environment chooses.

Exit codes: 0 after SIGTERM or SIGINT, 65 the model cannot be loaded, 78 the environment names no model, no
hook or no free port.
"""

import logging
import os
import sys

from mlops_server.choice import ChoiceError, choose
from mlops_server.ending import end_on_signals
from mlops_server.formats import ModelFileError
from mlops_server.hook import HookError
from mlops_server.settings import SettingsError, read_settings


def main() -> int:
    """Serve until a signal."""
    # As process 1 of a container a signal without handler is ignored: the first second, too, must end on one.
    end_on_signals()
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("mlops_server").setLevel(logging.INFO)
    try:
        choice, settings = choose(os.environ), read_settings(os.environ)
        from mlops_server.server import Server  # noqa: PLC0415 - a second of imports that no refusal should wait for

        Server(choice, settings).run()
    except (ChoiceError, SettingsError, HookError, ModelFileError) as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
