"""A model to ship: `python tools/ship.py RUN DIR` writes the last averaged weights of a run in half precision."""

from __future__ import annotations

import sys

from polyclock import save_pretrained
from polyclock.commands import run_folder

if __name__ == "__main__":
    found = run_folder.find(sys.argv[1], "last")
    save_pretrained(run_folder.load(found, "cpu"), sys.argv[2], half=True)
    print(f"{found} -> {sys.argv[2]}")
