"""What a run folder holds, read for people: how it was started, its log, its checkpoints, its evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..train import checkpoint, log

EVALUATION = "evaluation.json"
KNOWN = ("run.json", "log.jsonl", "checkpoints", "best")
Plain = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run.

    started     run.json; {} where there is none
    rows        log.jsonl
    evaluation  an evaluation document, or None
    model       the model folder to sample from, or None: that of the weights which the evaluation measured, else the
                best; average: averaged weights to lay over it
    which       "best" or "last", the checkpoint that `model` is of; "" where the folder is a model; step: of it
    trouble     sentences on what is missing, damaged, or does not belong together
    """

    folder: Path
    started: Plain
    rows: list[Plain]
    evaluation: Plain | None
    model: Path | None
    average: Path | None = None
    which: str = ""
    step: int | None = None
    trouble: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def facts(self) -> Plain:
        return self.started.get("facts") or {}

    @property
    def recipe(self) -> Plain:
        """The resolved recipe as plain data; {} where it is not known."""
        found = self.facts.get("recipe")
        if not isinstance(found, dict) and self.model:
            found = _json(self.model / "config.json").get("recipe")
        return found if isinstance(found, dict) else {}

    @property
    def parameters(self) -> int | None:
        """How many numbers the model holds, from the head of its file; None where there is none."""
        file = self.model / "model.safetensors" if self.model else None
        if file is None or not file.is_file():
            return None
        with file.open("rb") as opened:
            head = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        return sum(math.prod(t["shape"]) for name, t in head.items() if name != "__metadata__")

    @property
    def sha256(self) -> str | None:
        """Of the weights that the page is about; None where there are none."""
        file = self.model / "model.safetensors" if self.model else None
        return checkpoint.sha256(file) if file and file.is_file() else None

    @property
    def weights(self) -> str:
        """Which weights the page is about, in words."""
        step = "" if self.step is None else f" of step {self.step:,}"
        kind = {"best": f"the best checkpoint{step}", "last": f"the last checkpoint{step}"}.get(self.which, "the model")
        averaged = ", averaged over steps" if self.average else ""
        return f"{kind}{averaged} (sha256 {(self.sha256 or '')[:16]})"

    def stranger(self, what: str, document: Mapping[str, Any]) -> str | None:
        """A warning where a document, {"sha256", "step"}, is about other weights than the page; else None."""
        theirs = document.get("sha256")
        if not theirs or self.sha256 in (None, theirs):
            return None
        step = "" if document.get("step") is None else f", step {document['step']:,}"
        return f"{what} is of other weights (sha256 {theirs[:16]}{step}) than the rest of this page: {self.weights}."

    @property
    def held_out(self) -> list[int]:
        """Episodes that were kept from training."""
        return [int(e) for e in (self.facts.get("data") or {}).get("held_out") or []]

    def train(self) -> list[Plain]:
        return [row for row in self.rows if row.get("kind") == "train"]

    def validation(self) -> list[Plain]:
        return [row for row in self.rows if row.get("kind") == "validation"]


def read(folder: str | Path, evaluation: str | Path | Mapping[str, Any] | None = None) -> Run:
    """Read a run folder or a model folder.

    evaluation: a document or its file; None: RUN/evaluation.json where it is there.
    Errors: ValueError where the folder is no run, or a file cannot be read as JSON.
    """
    folder = Path(folder)
    known = [name for name in (*KNOWN, "config.json") if (folder / name).exists()]
    if not known:
        raise ValueError(f"{folder} is no run folder: it has none of {', '.join(KNOWN)}; nor is it a model folder")
    if evaluation is None and (folder / EVALUATION).is_file():
        evaluation = folder / EVALUATION
    document = evaluation if isinstance(evaluation, Mapping) or evaluation is None else _json(Path(evaluation))
    if document is not None and document.get("kind") != "evaluation":
        raise ValueError(f"{evaluation if isinstance(evaluation, str | Path) else 'the document'} is no evaluation")
    trouble = []
    model = average = step = None
    which: Literal["best", "last", ""] = "last" if _measured_last(folder, document) else "best"
    if "config.json" in known:  # a model, perhaps with the record of its training beside it
        model, which = folder, ""
    else:
        try:
            model = checkpoint.model_folder(folder, which)
            average, step = model.parent / "ema.safetensors", _calm(model.parent / "state.json").get("step")
        except ValueError as error:
            trouble.append(str(error))
    run = Run(
        folder=folder,
        started=_json(folder / "run.json") if (folder / "run.json").is_file() else {},
        rows=log.read(folder / "log.jsonl") if (folder / "log.jsonl").is_file() else [],
        evaluation=None if document is None else dict(document),
        model=model,
        average=average if average and average.is_file() else None,
        which=which,
        step=step,
        trouble=trouble,
    )
    if warning := run.stranger("The evaluation", (document or {}).get("about") or {}):
        run.trouble.append(warning)
    return run


def _measured_last(folder: Path, document: Mapping[str, Any] | None) -> bool:
    """Whether an evaluation is of the newest checkpoint, and not of the best."""
    there = checkpoint.steps(folder / "checkpoints")
    if document is None or not there:
        return False
    hashes = _calm(there[-1][1] / checkpoint.MANIFEST).get("sha256") or {}
    mine = hashes.get("model/model.safetensors")
    return mine is not None and mine == (document.get("about") or {}).get("sha256")


def ledger(folder: Path) -> list[Plain]:
    """Every checkpoint: {"kind", "step", "bytes", "sha256", "note"}; sha256 is that of model.safetensors."""
    out = []
    for kind, name in (("resume from", "checkpoints"), ("use", "best")):
        for step, path in checkpoint.steps(folder / name):
            manifest, state = _calm(path / checkpoint.MANIFEST), _calm(path / "state.json")
            hashes = manifest.get("sha256") or {}
            note = f"validation loss {state['loss']:.4g}" if isinstance(state.get("loss"), float) else ""
            if state.get("bad_steps"):
                note = f"{state['bad_steps']} steps skipped for NaN or Inf"
            size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
            out.append({"kind": kind, "step": step, "path": f"{name}/{path.name}", "bytes": size,
                        "sha256": str(hashes.get("model/model.safetensors", "")), "note": note})  # fmt: skip
    return out


def brief(value: Any) -> str:
    """Plain data of a recipe in one line: `Quantile(q=[0.01, 0.99])`; what is empty is left out."""
    if isinstance(value, dict) and "is" not in value:  # a part has fields of any name, a bare value one of these
        if "tensor" in value:
            return "fitted"
        if "set" in value:
            return brief(value["set"])
        if "map" in value:
            return "{" + ", ".join(f"{k}: {brief(v)}" for k, v in value["map"].items()) + "}"
    if isinstance(value, dict):
        inner = ", ".join(f"{k}={brief(v)}" for k, v in value.items() if k != "is" and v not in (None, "", [], {}))
        return f"{value.get('is', '')}({inner})"
    if isinstance(value, list):
        return "[" + ", ".join(map(brief, value)) + "]" if value else "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def signals(recipe: Plain) -> Iterator[tuple[str, str, Plain]]:
    """(name, "modelled" or "given", plain fields) of everything that a recipe names."""
    for group, word in (("modalities", "modelled"), ("conditions", "given")):
        for name, fields in ((recipe.get(group) or {}).get("map") or {}).items():
            yield name, word, fields


def _calm(path: Path) -> Plain:
    """A JSON file, or {} where it is missing or damaged: the ledger shows what is there."""
    try:
        return _json(path)
    except (ValueError, OSError):
        return {}


def _json(path: Path) -> Plain:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found
