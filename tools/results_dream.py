"""The tables of docs/results.md about DreamWorld, VideoJAM, VideoREPA and the union, from what runs/dream.sh and
benchmarks/guidance.py wrote."""

from __future__ import annotations

from tables import load, number, row, table

WORLDS = ("tabletop", "people")
ROWS = {  # of runs/dream.sh
    "video": "video alone",
    "flow": "+ flow",
    "geometry": "+ geometry",
    "semantics": "+ semantics",
    "all": "+ all three",
    "constant": "+ all three, weights not annealed",
    "dropped": "+ all three, each dropped in 15 %",
    "videojam": "VideoJAM",
    "videorepa": "VideoREPA",
    "union": "union",
}
SOURCES = ("text", "flow", "semantics", "geometry")
GUIDED = {"dropped": "no guidance", "guided-all": "by text and all three"} | {
    f"guided-without-{source}": f"without that by {source}" for source in SOURCES
}
EDGES = ("geometry.edge_agreement_moving", "depth.edge_agreement_moving")
KEPT = (  # measures of the predicted world: their names, where they stand, digits
    ("objects still there", ("video.permanence",), 2),
    ("how much they differ", ("video.object_error",), 3),
    ("off their place, px, of what moves", ("video.place_error_moving",), 2),
    ("change that flow explains", ("flow.warp_explained",), 2),
    ("depth along the flow", ("geometry.depth_warp", "depth.depth_warp"), 3),
    ("edges of depth in the picture, where it moves", EDGES, 2),
    ("flicker", ("video.flicker",), 4),
)  # fmt: skip
BESIDE = ("the recording", "copy last frame")
SIX = {  # the union's questions: what they are called in an evaluation, and their measures
    "policy": ("policy", ("action.error",)),
    "forward": ("forward", ("video.psnr", "video.mse_moving", "depth.absrel", "flow.epe_moving", "semantics.miou")),
    "inverse": ("inverse", ("action.error",)),
    "estimate": ("maps from video", ("depth.absrel", "flow.epe_moving", "semantics.miou")),
    "control": ("video from maps", ("video.psnr", "video.mse_moving")),
    "joint": ("joint", ("video.psnr", "action.error", "depth.absrel", "semantics.miou")),
}
ACTED = {"policy": "the policy", "joint": "all at once", "steered": "all at once, steered by its own maps"}


def found(world: str, name: str, kind: str = "") -> list[tuple[int, dict]]:
    """The committed documents of a row, with their seeds; `kind`: "" the evaluation, or "ledger"."""
    end = f".{kind}" if kind else ""
    each = ((seed, load(f"runs/results/dream-{world}-{name}-{seed}{end}.json")) for seed in range(4))
    return [(seed, document) for seed, document in each if document]


def ledger() -> str:
    """What was run, and what it cost."""
    rows, spent = [], 0.0
    for world in WORLDS:
        for name, title in ROWS.items():
            for seed, cost in found(world, name, "ledger"):
                made = dict(found(world, name)).get(seed, {})
                size = f"{made['model']['parameters'] / 1e6:.2f}" if made else ""
                spent += cost["minutes"]
                minutes = f"{cost['minutes']:.0f}"
                rows.append(row(world, title, seed, cost["steps"], size, minutes, f"`{cost['command']}`"))
    head = ("world", "row", "seed", "steps", "million parameters", "minutes of training steps", "command")
    return table(head, [*rows, row("all", "", "", "", "", f"{spent:.0f}", "")] if rows else [])


def asked(document: dict) -> str:
    """The question that shows the most of a row: everything from the first picture on, or the video alone."""
    return "joint" if "joint" in document["questions"] else "video"


def cells(errors: dict) -> list[str]:
    """The measures of the predicted world."""
    return [number(next((errors[k] for k in keys if k in errors), None), digits) for _, keys, digits in KEPT]


def kept(world: str) -> str:
    """How far each row's predicted world is one world, beside the recording and the present held."""
    return _kept(world, {name: title for name, title in ROWS.items() if name != "union"})


def guided(world: str) -> str:
    """The same of one network, without guidance and with each source of it left out."""
    return _kept(world, GUIDED)


def _kept(world: str, names: dict[str, str]) -> str:
    rows, beside = [], {}
    for name, title in names.items():
        for seed, document in found(world, name):
            question = asked(document)
            part = document["probes"]["world"]["rows"].get(question)
            if part is None:
                continue
            psnr = number(document["questions"][question]["errors"].get("video.psnr"), 1)
            rows.append(row(f"{title}, seed {seed}", *cells(part["errors"]), psnr))
            for series in BESIDE:
                both = beside.setdefault(series, {})
                both |= {k: v for k, v in part["beside"].get(series, {}).items() if v.get("mean") is not None}
    rows += [row(series, *cells(errors), "") for series, errors in beside.items()] if rows else []
    return table(("who predicts", *(title for title, _, _ in KEPT), "PSNR, dB"), rows)


def six() -> str:
    """The union's six questions, each beside what the training data or other inputs alone would answer."""
    rows = []
    for seed, document in found("tabletop", "union"):
        for title, (name, measures) in SIX.items():
            part = document["questions"].get(name)
            if part is None:
                rows.append(row(title, seed, "not asked", "", ""))
                continue
            for measure in (m for m in measures if m in part["errors"]):
                others = [f"{who} {number(e[measure])}" for who, e in part["beside"].items() if measure in e]
                better = [c["second"].removeprefix(f"{name} with ") for c in document["comparisons"]
                          if (c["first"], c["measure"], c["verdict"]) == (name, measure, "better")]  # fmt: skip
                cell = number(part["errors"][measure])
                rows.append(row(title, seed, f"`{measure}`", cell, "; ".join(others), ", ".join(better)))
    return table(("question", "seed", "measure", "the union", "beside it", "surely better than"), rows)


def acting() -> str:
    """Success of the union's ways to act, on the same starts."""
    rows = []
    for seed in range(4):
        for kind, title in ACTED.items():
            document = load(f"runs/results/dream-union-{seed}.{kind}.json")
            if document:
                mean = document["mean"]
                share = f"{mean['share']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]"
                each = ", ".join(
                    f"{n.partition('/')[2]} {t['successes']}/{t['episodes']}" for n, t in document["tasks"].items()
                )
                rows.append(row(f"{title}, seed {seed}", share, each, f"{document['latency_ms']['p50']:.0f}"))
    return table(("who acts", "mean over tasks", "each task", "ms a call"), rows)


def cost() -> str:
    """What guidance costs: branches in a step, and clips in which branches look anew now and then."""
    document = load("benchmarks/results/guidance.json")
    if not document:
        return "not run"
    machine = document["machine"]
    said = f"`{document['command']}`; {document.get('network', 'random weights')}, {machine['threads']} thread(s)."
    out = [said]
    if "step" in document:
        lines = [row(*name.split(" x "), *ratios(one)) for name, one in document["step"].items()]
        out.append(table(("branches", "stacked", "of one branch, wall", "processor"), lines))
    if "plans" in document:
        lines = [row(name, one["evaluations"], *ratios(one), one["psnr"] or "exact")
                 for name, one in document["plans"].items()]  # fmt: skip
        head = ("clip under", "branches a step", "of no guidance, wall", "processor", "PSNR to the exact one, dB")
        out.append(table(head, lines))
    if "clip" in document:
        clip = document["clip"]
        lines = [row(name, seconds) for name, seconds in clip.items() if "branch" in name]
        about = f"Wan {clip['size']}, latents {clip['latents']}, {clip['steps']} steps, {clip['dtype']}"
        out.append(f"{about}, {machine.get('gpu', 'CPU')}:\n\n" + table(("clip", "seconds"), lines))
    return "\n\n".join(out)


def ratios(one: dict) -> list[str]:
    """Times as long, by the wall and of the processor, with intervals."""
    both = (one[clock] for clock in ("wall", "processor"))
    return [f"{c['ratio']:.2f}x" + ("" if c["low"] is None else f" [{c['low']:.2f}, {c['high']:.2f}]") for c in both]


def parts() -> dict[str, str]:
    """Every generated part, by its mark."""
    out = {"dream-ledger": ledger(), "dream-six": six(), "dream-acting": acting(), "dream-cost": cost()}
    for world in WORLDS:
        out[f"dream-{world}"], out[f"dream-{world}-guides"] = kept(world), guided(world)
    return out
