#!/usr/bin/env bash
# The world whose answers are known: runs the example and writes its answers and what it cost to runs/results/.
#
#   runs/known_world.sh
#
# About 3 minutes on 2 cores.
set -euo pipefail
mkdir -p runs/out runs/results
python=${PYTHON:-.venv/bin/python}
"$python" examples/00_known_world.py | tee runs/out/known_world.log
"$python" - <<'PY'
import json
from pathlib import Path

lines = Path("runs/out/known_world.log").read_text().splitlines()
document = {
    "command": "runs/known_world.sh",
    "steps": 2000,
    "seconds": int(lines[-2].split()[0]),
    "answers": json.loads(lines[-1]),
}
Path("runs/results/known_world.json").write_text(json.dumps(document, indent=1) + "\n")
PY
