"""The tables of docs/results.md about one call and one step at the published size, from what benchmarks/ wrote."""

from __future__ import annotations

from tables import load, row, table


def call() -> str:
    """One policy call, one training step and fewer steps of a solver beside the authors' code."""
    document = load("benchmarks/results/uwm.json")
    if not document:
        return "not run"
    found = document["results"]["policy"]
    head = ("a policy call: ten steps, published size, batch 1", "theirs / ours, wall", "processor", "difference")
    line = row("features of what stands beside the times once a call; of the last block only what is wanted",
               *ratios(found), f"{found['largest_difference']:.1e}")  # fmt: skip
    more = (*call_without_video(), *training_step(), *targets(), *solver_calls())
    return "\n\n".join([said(document), table(head, [line]), *more])


def said(document: dict) -> str:
    """How both sides were run."""
    threads = document["machine"]["threads"]
    many = "s" if threads > 1 else ""
    return f"`{document['command']}`: {document['rounds']} rounds, taking turns, {threads} thread{many}."


def ratios(found: dict) -> list[str]:
    """Theirs / ours by the wall and of the processor, with intervals."""
    both = (found[clock] for clock in ("wall", "processor"))
    return [f"{c['ratio']:.2f}x" + ("" if c["low"] is None else f" [{c['low']:.2f}, {c['high']:.2f}]") for c in both]


def call_without_video() -> list[str]:
    """A policy call without tokens for the future; nothing where it was not run."""
    document = load("benchmarks/results/uwm_bare.json")
    if not document:
        return []
    found = document["results"]["bare"]
    names = {"full": "theirs / ours with them", "bare": "theirs / ours without", "saved": "ours with / without"}
    lines = [row(text, *ratios(found[name])) for name, text in names.items()]
    tokens, spent = found["tokens"], found["bare"]["wall"]["seconds"]
    head = ("a policy call without tokens for the future", "wall", "processor")
    facts = (
        f"The same question with and without tokens for the future, of a law that trains both: {tokens['full']} and "
        f"{tokens['bare']} tokens, {spent['theirs']:.2f} s a call of theirs and {spent['bare']:.2f} s of ours without."
    )
    return [f"{said(document)} {facts}", table(head, lines)]


def training_step() -> list[str]:
    """One step of either side, and where its time goes; nothing where it was not run."""
    document = load("benchmarks/results/uwm_train.json")
    if not document:
        return []
    found, batch = document["results"]["train"], document["size"]["batch"]
    names = {
        "encoding": "the autoencoder in every step, as theirs; AdamW fused",
        "ahead": "its posterior encoded ahead, 8 looks; AdamW fused",
    }
    lines = [row(text, *ratios(found[name])) for name, text in names.items()]
    head = (f"a training step of {batch} samples, published size", "theirs / ours, wall", "processor")
    parts = found["parts"]
    columns = list(dict.fromkeys(part for side in parts.values() for part in side))
    seconds = [row(side, *(f"{parts[side].get(c, 0.0):.2f}" for c in columns)) for side in parts]
    return [said(document), table(head, lines), table(("seconds of it", *columns), seconds)]


def solver_calls() -> list[str]:
    """Policy calls in fewer steps; nothing where they were not run."""
    document = load("benchmarks/results/uwm_solvers.json")
    if not document:
        return []
    found = document["results"]["solvers"]
    rows = [row(name, *ratios(one), f"{one['wall']['seconds'][name]:.3f}") for name, one in found.items()]
    head = ("our policy call by", "their ten steps / it, wall", "processor", "seconds")
    return [said(document), table(head, rows)]


def targets() -> list[str]:
    """What targets cut out of kept latents differ by from encoded ones; nothing where it was not measured."""
    document = load("benchmarks/results/latents.json")
    if not document:
        return []
    found = document["results"]
    cells = found["grid crop, by cells from its border"]
    away = {"0": "at the crop's border", "4": "4 cells from it", "13": "13 cells from it"}
    lines = [row("a crop on the grid of latents, cut out of those of the whole picture", f"{found['grid crop']:.3f}")]
    lines += [row(f"the same, {where}", f"{cells[cell]:.3f}") for cell, where in away.items() if cell in cells]
    lines.append(row("kept as float16", f"{found['float16']:.4f}"))
    words = (
        f"`{document['command']}`, autoencoder: {document['weights']}. Targets kept ahead beside those encoded in "
        "every step. What is kept of a fixed set of crops is exact and has no line."
    )
    if document["weights"].startswith("random"):
        words += (
            " Random weights show how far the network sees over a crop's border, not what a trained one makes of it."
        )
    return [words, table(("targets kept ahead", "error (std of the latents)"), lines)]


def latency() -> str:
    """Milliseconds of a policy call by precision, compilation and graphs."""
    document = load("benchmarks/results/latency.json")
    if not document:
        return "not run: needs a CUDA GPU, 5 minutes"
    rows = []
    for name, one in document["variants"].items():
        if "not run" in one:
            rows.append(row(name, f"not run: {one['not run']}", *[""] * 4))
            continue
        spent = (f"{one[key]:.2f}" for key in ("p50_ms", "p95_ms"))
        read = f"{one['weights_read_bytes'] / 1e6:.0f}"
        rows.append(row(name, *spent, f"{one['largest_difference']:.1e}", read, f"{100 * one['share_of_bound']:.0f} %"))
    said = (
        f"`{document['command']}` on {document['machine']['device']}: {document['calls']} calls at batch 1, "
        f"{document['steps']} steps, pictures on the host to actions on the host; a copy on the device moves "
        f"{document['bandwidth_gb_s']:.0f} GB/s."
    )
    head = ("our policy call", "p50, ms", "p95, ms", "difference to fp32", "weights read, MB", "share of the bound")
    return said + "\n\n" + table(head, rows)
