"""The tables of docs/results.md about UnityVideo, from what runs/people.sh wrote.

python tools/results_unity.py OUT FILE    what `runs/people.sh speed` measured, as JSON
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

from tables import default_of, ledger, load, number, row, table

MAPS = ("depth", "flow", "segmentation", "skeleton", "surface")
SEEDS = (0, 1)
ROWS = {  # the rows of runs/people.sh: what they are, and whose speed they have
    "joint": ("five maps, three tasks", "joint"),
    **{f"single-{n}": (f"{n} alone, three tasks", "single-depth") for n in MAPS},
    "no-switcher": ("without the switcher", "joint"),
    "no-context": ("without prompts in context", "joint"),
    "neither": ("without both", "joint"),
    "shared-heads": ("one head for all", "joint"),
    "rgb-only": ("video alone", "rgb-only"),
    **{f"estimate-{n}": (f"{n} from video alone", "estimate-depth") for n in MAPS},
    "one-person": ("trained on clips of one person", "joint"),
    **{f"control-{n}": (f"video from {n} alone", "estimate-depth") for n in MAPS},
    **{f"together-{n}": (f"video and {n} alone", "estimate-depth") for n in MAPS},
    "table": ("switcher with a table for each block", "table"),
    "own-ends": ("a way in for each map too", "joint"),
    "same-places": ("maps in the video's places, with a mark", "joint"),
    "released-times": ("clean tokens at the noisy time, shift 5", "joint"),
}
MEASURES = {  # modality: its measures, with digits
    "depth": (("depth.absrel", 3), ("depth.delta", 3)),
    "flow": (("flow.epe", 3), ("flow.epe_moving", 3)),
    "segmentation": (("segmentation.miou", 3),),
    "skeleton": (("skeleton.pck", 3),),
    "surface": (("surface.part_accuracy", 3),),
}
FIRST = {n: each[-1] if n == "flow" else each[0] for n, each in MEASURES.items()}  # the one of each that tells most
BESIDE = ("shuffled windows", "the recording")  # what stands beside how generated maps agree with generated pictures
AGREE = ("flow.warp_explained", "depth.edge_agreement", "depth.edge_agreement_moving")
ESTIMATE, CONTROL, TOGETHER = "{} | video", "video | {}, text", "video, {} | text"
SPEEDS = ("joint", "single-depth", "estimate-depth", "rgb-only", "table")


def found(name: str, seed: int, kind: str = "") -> dict | None:
    """A committed document of a row: "" its questions, "losses", "ledger", "two", "robots"."""
    return load(f"runs/results/unity-{name}-{seed}{'.' + kind if kind else ''}.json")


def hours(name: str) -> float | None:
    """What one run of a row takes on two free cores as runs/people.sh would make it now; None where no speed was
    measured."""
    speed = load("runs/results/unity-speed.json")
    if not speed:
        return None
    mine = speed["rows"][ROWS[name][1]]
    learning = default_of("people.sh", "STEPS") * mine["cpu_seconds_a_step"]
    return (learning + default_of("people.sh", "WINDOWS") * mine["cpu_seconds_a_window"]) / 2 / 3600


def not_run(name: str, runs: int = 1) -> str:
    """The words for a row that was not run."""
    spent = hours(name)
    return "not run" if spent is None else f"not run: {runs * spent:.1f} hours"


def speeds() -> str:
    """How fast each kind of row trained and answered while it was measured."""
    document = load("runs/results/unity-speed.json")
    if not document:
        return "not measured"
    rows = [
        row(ROWS[name][0], f"{s['cpu_seconds_a_step']:.2f}", f"{s['cpu_seconds_a_window']:.1f}")
        for name, s in document["rows"].items()
    ]
    steps, windows = (default_of("people.sh", variable) for variable in ("STEPS", "WINDOWS"))
    said = (
        f"`{document['command']}`, {document['date']}: 30 steps of 16 samples, and every question about 4 windows "
        f"(load average {document['load'][0]:.1f} on {document['cores']} cores at its end). The hours count the "
        f"processor's seconds of {steps} steps and {windows} windows as if two cores were free."
    )
    return said + "\n\n" + table(("row", "processor's seconds a step", "... a window, all questions"), rows)


def answered(document: dict, query: str) -> dict:
    """What was found of a query; its question's name depends on what else the network is asked."""
    return next((part for part in document["questions"].values() if part["query"] == query), {})


def cell(name: str, seed: int, query: str, measure: str, digits: int, series: str = "") -> str:
    """What a row's network, or what stands beside it, scored in a question."""
    document = found(name, seed)
    if not document:
        return not_run(name)
    part = answered(document, query)
    return number((part.get("beside", {}).get(series, {}) if series else part.get("errors", {})).get(measure), digits)


def seeds(*names: str) -> tuple[int, ...]:
    """The seeds of which some of the rows were run; else the first."""
    return tuple(s for s in SEEDS if any(found(n, s) for n in names)) or SEEDS[:1]


def asked(kind: str, query: str, measures: dict[str, tuple], beside: dict[str, str]) -> str:
    """One question of every map, by the network of all, of this map, and of this task; and what stands beside it."""
    rows = []
    for n in MAPS:
        mine = ("joint", f"single-{n}", f"{kind}-{n}")
        for measure, digits in measures[n]:
            for seed in seeds(*mine):
                cells = [cell(name, seed, query.format(n), measure, digits) for name in mine]
                base = next((name for name in mine if found(name, seed)), "joint")
                cells += [
                    cell(base, seed, query.format(n), measure, digits, series.format(n)) if found(base, seed) else ""
                    for series in beside.values()
                ]
                rows.append(row(f"`{query.format(n)}`", f"`{measure}`", seed, *cells))
    head = ("question", "measure", "seed", "five maps, three tasks", "this map, three tasks", "this map, this task")
    return table((*head, *beside), rows)


def estimation() -> str:
    beside = {"training mean": "mean {}", "nearest training frame": "nearest training frame", "zero flow": "zero flow"}
    return asked("estimate", ESTIMATE, MEASURES, beside)


def control() -> str:
    measures = dict.fromkeys(MAPS, (("video.mse", 4), ("video.mse_moving", 4)))
    beside = {
        "another window's map": "shuffled {}",
        "mean picture": "mean video",
        "the present held": "copy last frame",
    }
    return asked("control", CONTROL, measures, beside)


def together() -> str:
    measures = {n: (FIRST[n], ("video.mse", 4)) for n in MAPS}
    beside = {"training mean": "mean {}", "mean picture": "mean video", "another sentence": "shuffled inputs"}
    return asked("together", TOGETHER, measures, beside)


def agreement() -> str:
    """Whether pictures and maps that were generated together are of one world."""
    rows = []
    for name in ("joint", "single-depth", "single-flow"):
        for seed in seeds(name):
            probe = (found(name, seed) or {}).get("probes", {}).get("world")
            if not probe:
                rows.append(row(ROWS[name][0], seed, not_run(name), "", "", "", ""))
                continue
            for label, part in probe["rows"].items():
                for measure in AGREE if label == "joint" or label.startswith("video and") else ():
                    if measure in part["errors"]:
                        cells = [part["errors"][measure], *(part["beside"].get(s, {}).get(measure) for s in BESIDE)]
                        rows.append(row(ROWS[name][0], seed, label, f"`{measure}`", *map(number, cells)))
    head = ("network", "seed", "question", "measure", "generated", "with another window's map", "the recording")
    return table(head, rows)


def over_steps(name: str, seed: int, value: str, question: str, part: str) -> dict[int, float]:
    """step -> the mean over a row's checkpoints of a loss ("steps") or an estimate ("estimates")."""
    document = found(name, seed, "losses") or {}
    out = {}
    for step, asked_here in document.get(part, {}).items():
        numbers = [v[value] for q, v in asked_here.items() if re.fullmatch(question, q) and value in v]
        if numbers:
            out[int(step)] = sum(numbers) / len(numbers)
    return out


def curves(lines: list[tuple[str, str, str, dict[int, float]]], digits: int) -> str:
    """Rows (what, network, row's name) over the steps of their checkpoints."""
    steps = sorted({s for *_, line in lines for s in line})
    if not steps:
        return "not run"
    rows = [
        row(what, title, *[f"{line[s]:.{digits}f}" if s in line else "" for s in steps])
        if line
        else row(what, title, not_run(name), *[""] * (len(steps) - 1))
        for what, title, name, line in lines
    ]
    return table(("", "network", *(f"step {s}" for s in steps)), rows)


def convergence() -> str:
    """The video's loss over steps: does learning more with it help?"""
    questions = {"rgb-only": "video . text"} | dict.fromkeys(("joint", *(f"single-{n}" for n in MAPS)), "video, .*")
    lines = []
    for seed in SEEDS:
        for name, question in questions.items():
            line = over_steps(name, seed, "video", question, "steps")
            if line or not seed:
                lines.append((f"seed {seed}", ROWS[name][0], name, line))
    return curves(lines, 4)


def learning() -> str:
    """The error of every map, estimated in one step, over the steps of the training."""
    lines = []
    for n in MAPS:
        for seed in SEEDS:
            for name in ("joint", f"single-{n}", f"estimate-{n}"):
                line = over_steps(name, seed, FIRST[n][0], f"{n} . video", "estimates")
                if line or not seed:
                    lines.append((f"`{FIRST[n][0]}`, seed {seed}", ROWS[name][0], name, line))
    return curves(lines, 3)


def averaged(document: dict, query: str) -> str:
    """The video's error in a question, mean over the maps that it is asked of."""
    parts = (answered(document, query.format(n)) for n in MAPS)
    each = [part["errors"]["video.mse"]["mean"] for part in parts if part]
    return f"{sum(each) / len(each):.4f}" if each else ""


def networks(*names: str) -> str:
    """Networks of all maps beside each other: what each estimates, and its videos."""
    rows = []
    for seed in seeds(*names):
        for name in names:
            document, title = found(name, seed), f"{ROWS[name][0]}, seed {seed}"
            if not document:
                rows.append(row(title, not_run(name), *[""] * (len(MAPS) + 1)))
                continue
            cells = [cell(name, seed, ESTIMATE.format(n), *FIRST[n]) for n in MAPS]
            rows.append(row(title, *cells, averaged(document, CONTROL), averaged(document, TOGETHER)))
    head = [f"`{FIRST[n][0]}` from video" for n in MAPS]
    return table(("network", *head, "`video.mse` from a map", "`video.mse` with a map"), rows)


def unseen(kind: str, *names: str) -> str:
    """What was never shown in training."""
    rows = []
    for name in names:
        for seed in SEEDS:
            document = found(name, seed, kind)
            if not document and not seed:
                rows.append(row(ROWS[name][0], not_run(name), *[""] * 6))
            for question, part in (document or {"questions": {}})["questions"].items():
                modality = "video" if question.startswith("video") else question.split()[0]
                measure, digits = ("video.mse", 4) if modality == "video" else FIRST[modality]
                if question.startswith("video and") or measure not in part["errors"]:
                    continue
                beside = [number(part["beside"].get(s, {}).get(measure), digits) for s in
                          (f"mean {modality}", "nearest training frame", "zero flow")]  # fmt: skip
                mine = number(part["errors"][measure], digits)
                rows.append(row(f"{ROWS[name][0]}, seed {seed}", question, f"`{measure}`", mine, *beside))
    head = ("network", "question", "measure", "network", "training mean", "nearest training frame", "zero flow")
    return table(head, rows)


def parts() -> dict[str, str]:
    """Every generated part, by its mark."""
    return {
        "unity-ledger": ledger("unity", {n: (title, len(SEEDS)) for n, (title, _) in ROWS.items()}, not_run),
        "unity-speed": speeds(),
        "unity-estimation": estimation(),
        "unity-control": control(),
        "unity-together": together(),
        "unity-agreement": agreement(),
        "unity-convergence": convergence(),
        "unity-learning": learning(),
        "unity-parts": networks("joint", "no-context", "no-switcher", "neither"),
        "unity-heads": networks("joint", "shared-heads", "own-ends"),
        "unity-others": networks("joint", "table", "same-places", "released-times"),
        "unity-two": unseen("two", "joint", "one-person"),
        "unity-robots": unseen("robots", "joint"),
    }


def spent(file: Path) -> float:
    """The processor's seconds that bash's `time` wrote."""
    return sum(map(float, file.read_text().split()[-2:]))


def measured(out: Path) -> dict:
    """What the short runs out/speed-NAME-5 and -35, and answers about 2 and 6 windows, took."""
    rows = {}
    for name in SPEEDS:
        steps = [spent(out / f"speed-{name}-{n}.times") for n in (5, 35)]
        windows = [spent(out / f"speed-{name}-asked-{n}.times") for n in (2, 6)]
        rows[name] = {
            "cpu_seconds_a_step": (steps[1] - steps[0]) / 30,
            "cpu_seconds_a_window": (windows[1] - windows[0]) / 4,
        }
    about = {"command": "runs/people.sh speed", "date": time.strftime("%F")}
    return about | {"load": os.getloadavg(), "cores": os.cpu_count(), "rows": rows}


if __name__ == "__main__":
    source, target = sys.argv[1:]
    Path(target).write_text(json.dumps(measured(Path(source)), indent=1) + "\n")
    print(f"wrote {target}")
