"""What the image runs: its settings are in the environment, see `mlops_deploy.cli.puller`."""

import sys

from mlops_deploy.cli.puller import main

sys.exit(main())
