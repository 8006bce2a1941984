"""Prints how many cases of the parity grid give the tokens of diffusers: `python tools/parity_table.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.parity.oracle import table

if __name__ == "__main__":
    print(table())
