"""What a run cost: `python tools/ledger.py RUN OUT.json COMMAND...` writes its steps, minutes and losses."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def ledger(run: Path, command: str) -> dict:
    """Read off the newest checkpoint and the log of a run folder."""
    newest = max((run / "checkpoints").glob("step-*"))
    state = json.loads((newest / "state.json").read_text())
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    best = [row for row in rows if row["kind"] == "validation" and row["best"]]
    train = [row for row in rows if row["kind"] == "train"]
    return {
        "command": command,
        "steps": state["step"],
        "minutes": round(state["seconds"] / 60, 1),
        "data_wait": sum(row["data_wait"] for row in train) / len(train),
        "bad_steps": train[-1]["bad_steps"],
        "best_step": best[-1]["step"] if best else None,
        "validation_loss": best[-1]["loss"] if best else None,
    }


if __name__ == "__main__":
    document = ledger(Path(sys.argv[1]), " ".join(sys.argv[3:]).strip())
    Path(sys.argv[2]).write_text(json.dumps(document, indent=1) + "\n")
