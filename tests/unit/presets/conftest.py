"""The server's own modules that need the standard library alone; the rest of it is tested inside its image."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "images" / "server"))
