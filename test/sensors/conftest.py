"""Makes ``stamp_sequences`` importable for the tests of this folder (pytest's importlib mode does not)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
