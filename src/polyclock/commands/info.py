"""`polyclock info RUN [--json]`: what a run is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..flags import Parser
from . import run_folder

TEXT = """What a run, or a model folder, is: step, sha256 of model.safetensors, modalities, trained queries.
Of a run it is the last checkpoint; the best one on held-out episodes stands beside it."""


def run(words: Sequence[str]) -> int:
    """Print it; the exit status is 0."""
    parser = Parser("info", TEXT)
    parser.add_argument("run", metavar="RUN", help="a run folder or a model folder")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--code", metavar="FILE.py", help="your own parts that the model's config names (it is run)")
    args = parser.take(words)
    found = describe(args["run"], args["code"])
    print(json.dumps(found, indent=1) if args["json"] else _text(found))
    return 0


def describe(path: str, code: str | None = None) -> dict[str, Any]:
    """Everything that is printed, as plain data. Errors: those of finding and reading the model."""
    here = Path(path)
    whole_run = (here / "checkpoints").is_dir()
    last = run_folder.find(here, "last" if whole_run else None)
    model = run_folder.load(last, "cpu", code)
    recipe, started = model.recipe, run_folder.started_with(here)
    best = _best(here) if whole_run else None
    return {
        "run": str(here) if whole_run else None,
        "model": str(last.folder),
        "step": last.step,
        "sha256": last.sha256,
        "average": str(last.average) if last.average else None,
        "best": best,
        "recipe": recipe.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "modalities": {
            n: {
                "shape": list(m.shape),
                "patch": list(m.patch),
                "column": m.key or n,
                "rate": m.rate,
                "start": m.start,
                "path": type(m.path).__name__,
                "predicts": m.path.predict,
                "codec": type(m.codec).__name__,
            }
            for n, m in recipe.modalities.items()
        },
        "conditions": {
            n: {"kind": c.kind, "shape": list(c.shape), "column": c.key or n, "route": c.route, "required": c.required}
            for n, c in recipe.conditions.items()
        },
        "patterns": list(dict.fromkeys(p.label for p in model.patterns or ())),
        "data": started.get("facts", {}).get("data"),
        "training": started.get("training"),
        "versions": started.get("versions") or _written_by(last.folder),
    }


def _best(run: Path) -> dict[str, Any] | None:
    if not (run / "best").is_dir():
        return None
    best = run_folder.find(run, "best")
    state = json.loads((best.folder.parent / "state.json").read_text(encoding="utf-8"))
    return {"model": str(best.folder), "step": best.step, "loss": state.get("loss"), "sha256": best.sha256}


def _written_by(folder: Path) -> dict[str, str]:
    return {"polyclock": json.loads((folder / "config.json").read_text(encoding="utf-8")).get("version", "unknown")}


def _text(found: Mapping[str, Any]) -> str:
    """For people: one line a fact."""
    lines = [f"{found['model']}: {found['recipe']}, {found['parameters']:,} parameters"]
    step = "" if found["step"] is None else f"step {found['step']}, "
    lines.append(f"{step}sha256 {found['sha256']}{', with averaged weights' if found['average'] else ''}")
    if found["best"]:
        best = found["best"]
        loss = "nothing was held out" if best["loss"] is None else f"loss {best['loss']:.4f} on held-out episodes"
        lines.append(f"to use: step {best['step']}, {loss}, {best['model']}")
    for name, m in found["modalities"].items():
        rate = f"{m['rate']:g}/s from {m['start']:g} s" if m["rate"] else "at the data's rate"
        lines.append(f"modality   {name}  {tuple(m['shape'])}  {rate}  {m['path']}, predicts {m['predicts']}")
    for name, c in found["conditions"].items():
        shape = tuple(c["shape"]) or c["kind"]
        lines.append(f"condition  {name}  {shape}  {c['route']}{', required' if c['required'] else ''}")
    lines += [f"trained    {label}" for label in found["patterns"]]
    data = found["data"] or {}  # what a job of the user's own says of its data is up to them
    facts = [f"{data['windows']} windows"] if "windows" in data else []
    facts += [f"held out {data['held_out']}"] if "held_out" in data else []
    facts += [data["fingerprint"][:16]] if "fingerprint" in data else []
    lines += [f"data       {', '.join(facts)}"] if facts else []
    lines.append("versions   " + ", ".join(f"{n} {v}" for n, v in (found["versions"] or {}).items()))
    return "\n".join(lines)
