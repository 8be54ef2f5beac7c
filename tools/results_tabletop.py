"""The tables of docs/results.md about the tabletop, from what runs/tabletop.sh wrote."""

from __future__ import annotations

from tables import load, number, row, table

from polyclock.evaluate.paired import Pairs

NETWORKS = {"whole": "all modalities", "acting": "actions alone"}
# A plain cloner of actions, 15 minutes on two cores, 10 episodes of each task: its own starts, run before this project.
YARDSTICK = {"drawer-close": 8, "drawer-open": 7, "window-open": 5, "button-press-topdown": 8, "handle-press": 8}
ESTIMATES = ("depth.absrel", "depth.absrel_moving", "flow.epe", "flow.epe_moving", "segmentation.miou",
             "segmentation.miou_moving", "skeleton.pck")  # fmt: skip


def share(counts: dict) -> str:
    return f"{counts['successes']}/{counts['episodes']} [{counts['low']:.2f}, {counts['high']:.2f}]"


def success() -> str:
    """Episodes solved, by task and by who acts."""
    documents = {title: load(f"runs/results/tabletop-{name}.rollout.json") for name, title in NETWORKS.items()}
    documents = {title: document for title, document in documents.items() if document}
    if not documents:
        return "not run"
    rows = []
    for task, count in YARDSTICK.items():
        found = [share(d["tasks"][f"metaworld/{task}"]) for d in documents.values()]
        rows.append(row(task, *found, f"{count}/10"))
    means = [f"{d['mean']['share']:.2f} [{d['mean']['low']:.2f}, {d['mean']['high']:.2f}]" for d in documents.values()]
    rows.append(row("mean", *means, f"{sum(YARDSTICK.values()) / 50:.2f}"))
    latency = [f"{d['latency_ms']['p50']:.0f}, {d['latency_ms']['p95']:.0f}" for d in documents.values()]
    rows.append(row("ms a call: median, 95 %", *latency, ""))
    return table(("task", *documents, "yardstick"), rows)


def apart() -> str:
    """Episodes solved of the tasks whose goal nothing shows."""
    document = load("runs/results/tabletop-apart.rollout.json")
    if not document:
        return "not run"
    rows = [row(name.removeprefix("metaworld/"), share(counts)) for name, counts in document["tasks"].items()]
    return table(("task", "all modalities"), rows)


def against() -> str:
    """The sentence that compares the two networks on the same starts."""
    found = (load("runs/results/tabletop-whole.rollout.json") or {}).get("against")
    if not found:
        return "not run"
    counts = {name: found[name] for name in ("both", "first", "second", "neither")}
    return Pairs(**counts).sentence(NETWORKS["whole"], NETWORKS["acting"])


def estimates() -> str:
    """Maps read off a picture, beside what costs nothing."""
    document = load("runs/results/tabletop.json") or {}
    question = document.get("questions", {}).get("maps from video")
    if not question:
        return "not run"
    rows = []
    for measure in ESTIMATES:
        kind = measure.split(".")[0]
        beside = {who: errors[measure] for who, errors in question["beside"].items() if measure in errors}
        mean = next((v for who, v in beside.items() if who == f"mean {kind}"), None)
        zero, near = beside.get("zero flow"), beside.get("nearest training frame")
        cells = (number(question["errors"].get(measure)), number(mean), number(near), number(zero))
        rows.append(row(f"`{measure}`", question["errors"][measure]["better"], *cells))
    head = ("measure", "better", "network", "per-pixel training mean", "nearest training frame", "zero flow")
    lines = [f"Held out: {len(document['data']['episodes'])} episodes, {document['data']['windows']} windows.", "", ""]
    return "\n".join(lines) + table(head, rows)


CHUNKS = ("1", "2", "4", "8")  # of the forward model chained on itself
SHOWN = ("error", "mse", "absrel", "epe_moving", "miou", "pck")  # one measure of each kind


PROBED = (*SHOWN, "coverage", "width", "cosine", "explained", "permanence", "place_error_moving", "object_error",
          "warp_explained", "depth_warp", "edge_agreement")  # fmt: skip


def digits(measure: str) -> int:
    """Squared errors of pixels in [0, 1] are small."""
    return 5 if measure.endswith(".mse") else 3


def inputs() -> str:
    """What questions score with their inputs and with those of another window."""
    document = load("runs/results/tabletop.json")
    if not document:
        return "not run"
    rows = [
        row(
            r["first"],
            f"`{r['measure']}`",
            f"{r['first_mean']:.{digits(r['measure'])}f}",
            f"{r['second_mean']:.{digits(r['measure'])}f}",
            number(r, digits(r["measure"])),
            r["verdict"],
        )
        for r in document["comparisons"]
        if "with shuffled" in r["second"] and r["measure"].rsplit(".", 1)[-1] in SHOWN
    ]
    return table(("question", "measure", "true inputs", "shuffled", "difference", "true inputs are"), rows)


def probes() -> str:
    """What the probes found, a line each."""
    document = load("runs/results/tabletop.json") or {}
    lines = []
    for name, probe in document.get("probes", {}).items():
        lines += [f"*{name}*: {probe['what']}", ""]
        rows = []
        for label, part in probe["rows"].items():
            if ", chunk " in label and label.rsplit(" ", 1)[-1] not in CHUNKS:
                continue
            for measure, found in part["errors"].items():
                if measure.rsplit(".", 1)[-1] not in PROBED:
                    continue
                places = digits(measure)
                others = ((who, m[measure]) for who, m in part["beside"].items() if measure in m)
                beside = "; ".join(f"{who} {number(value, places)}" for who, value in others)
                rows.append(row(label, f"`{measure}`", number(found, places), beside))
        lines += [table(("question", "measure", "network", "beside it"), rows), ""]
    return "\n".join(lines).strip() or "not run"


def parts() -> dict[str, str]:
    """Every generated part, by its mark."""
    return {
        "tabletop-success": success(),
        "tabletop-apart": apart(),
        "tabletop-against": against(),
        "tabletop-estimates": estimates(),
        "tabletop-inputs": inputs(),
        "tabletop-probes": probes(),
    }
