"""Puts the demo's and the function's folders on the path of the tests, as running `demo.py` and a worker do."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "function")]
