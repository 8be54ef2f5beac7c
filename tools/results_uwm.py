"""The tables of docs/results.md about UWM and the systems beside it, from what runs/uwm.sh wrote.

python tools/results_uwm.py OUT FILE    what `runs/uwm.sh speed` measured, as JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from results_calls import call, latency
from tables import default_of, ledger, load, number, row, table

from polyclock.evaluate.intervals import wilson
from polyclock.evaluate.paired import Pairs

TASKS = ("drawer-close", "drawer-open", "window-open", "button-press-topdown", "handle-press")
SEEDS = {"uwm": 2, "diffusion_policy": 2, "pad": 2, "gr1": 2}  # the others: one
ROWS = {  # the rows of runs/uwm.sh: what they are, and whose speed they have (in acting, where steps are `MIXED`)
    "uwm": ("UWM", "uwm"),
    "diffusion_policy": ("Diffusion Policy", "diffusion_policy"),
    "pad": ("PAD", "pad"),
    "gr1": ("GR1", "gr1"),
    "shared": ("UWM, one time for action and video", "uwm"),
    "current": ("UWM, the present in place of the future", "uwm"),
    "labelled25": ("25 % of the episodes (20 of each task)", "uwm"),
    "labelled25_video": ("25 %, and the other 75 % without actions or state", "uwm"),
    "labelled25_people": ("25 %, and films of people", "uwm"),
    "flow_ends": ("flow matching, end atoms", "uwm"),
    "flow_bare": ("flow matching, no end atoms", "uwm"),
    "ddpm_ends": ("DDPM, end atoms", "uwm"),
    "ddpm_bare": ("DDPM, no end atoms", "uwm"),
    "registers0": ("no registers", "uwm"),
    "alone": ("UWM, 30 % of its steps without tokens for the video, asked without them", "diffusion_policy"),
    "crops": ("UWM, crops drawn from a fixed set of 8 in place of all 81", "uwm"),
    "context": ("cross-attention to pictures and sentence", "context"),
    "demos50": ("50 episodes (10 of each task)", "uwm"),
    "demos200": ("200 episodes (40 of each task)", "uwm"),
    "pretrained": ("the other four tasks (to go on from)", "uwm"),
    "scratch": ("drawer-open from 20 episodes, from nothing", "uwm"),
    "finetuned": ("drawer-open from 20 episodes, after the other four tasks", "uwm"),
}
SYSTEMS = ("uwm", "diffusion_policy", "pad", "gr1")
VARIATIONS = ("light", "background", "clutter")
VARIED = 20  # starts of each task under each variation
ANSWERS = (*SYSTEMS, "shared", "ddpm_bare")  # the rows that are asked every question
MIXED = {"alone": {"uwm": 0.7, "diffusion_policy": 0.3}}  # shares of a row's steps, where these have not one speed
ASKED = (  # question, measure, digits: the columns of the table of questions
    ("policy", "action.error", 3),
    ("inverse", "action.error", 3),
    ("joint", "action.error", 3),
    ("forward", "video.psnr", 2),
    ("forward", "video.mse_moving", 4),
    ("video", "video.psnr", 2),
    ("joint", "video.psnr", 2),
)


def found(name: str, seed: int, kind: str = "") -> dict | None:
    """A committed document of a row: "" its questions, "rollout", "tracking", "ledger"."""
    return load(f"runs/results/uwm-{name}-{seed}{'.' + kind if kind else ''}.json")


def hours(name: str, training: bool = True) -> float | None:
    """What one run of a row takes on two free cores as runs/uwm.sh would make it now, or its acting alone; None where
    no speed was measured."""
    speed = load("runs/results/uwm-speed.json")
    if not speed:
        return None
    systems, kind = speed["systems"], ROWS[name][1]
    step = sum(part * systems[of]["cpu_seconds_a_step"] for of, part in MIXED.get(name, {kind: 1.0}).items())
    tasks = {"pretrained": 0, "scratch": 1, "finetuned": 1}.get(name, len(TASKS))
    acting = default_of("uwm.sh", "EPISODES") * tasks * systems[kind]["seconds_an_episode"] / 2
    learning = default_of("uwm.sh", "STEPS") * step / 2 if training else 0.0
    return (learning + acting) / 3600


def not_run(name: str, runs: float = 1, training: bool = True) -> str:
    """The words for a row that was not run."""
    spent = hours(name, training)
    return "not run" if spent is None else f"not run: {runs * spent:.1f} hours"


def speeds() -> str:
    """How fast each system trained and acted while it was measured."""
    document = load("runs/results/uwm-speed.json")
    if not document:
        return "not measured"
    rows = [
        row(ROWS[name][0], f"{s['steps_per_s']:.2f}", f"{s['cpu_seconds_a_step']:.2f}", f"{s['ms_a_call']:.0f}",
            f"{s['seconds_an_episode']:.1f}")
        for name, s in document["systems"].items()
    ]  # fmt: skip
    steps, episodes = (default_of("uwm.sh", variable) for variable in ("STEPS", "EPISODES"))
    said = (
        f"`{document['command']}`, {document['date']}: two processes, 30 steps of 32 samples, untrained networks in "
        f"episodes of 200 steps at most. The machine was shared (load average {document['load'][0]:.1f} on "
        f"{document['cores']} cores at its end), so that on a free one steps are rather quicker. The hours count the "
        f"processor's seconds of {steps} steps as if two cores were free, and {episodes} "
        "episodes of each task as they were timed."
    )
    head = ("system", "steps a second", "processor's seconds a step", "ms a call", "seconds an episode")
    return said + "\n\n" + table(head, rows)


def against(pair: dict | None) -> str:
    """A row minus the row beside it, on the same starts."""
    if not pair or pair.get("p_value") is None:
        return ""
    other = Path(pair["ledger"]).parts[-3].rpartition("-")[0]
    least, most = (f"{pair[end]:+.2f}" for end in ("low", "high"))
    return f"{pair['difference']:+.2f} [{least}, {most}] to `{other}`, p = {pair['p_value']:.2g}"


def success(*names: str) -> str:
    """Episodes solved, a line for each run, and one for all seeds together."""
    rows = []
    for name in names:
        made = [found(name, seed, "rollout") for seed in range(SEEDS.get(name, 1))]
        for seed, document in enumerate(made):
            title = f"{ROWS[name][0]}, seed {seed}"
            if not document:
                rows.append(row(title, not_run(name), *[""] * (len(TASKS) + 1)))
                continue
            rows.append(row(title, share(document), *solved([document]), against(document.get("against"))))
        if len(made) > 1 and None not in made:
            rows.append(row(f"{ROWS[name][0]}, all seeds", *every(list(filter(None, made)))))
    return table(("who acts", "mean over tasks", *TASKS, "minus the row beside it"), rows)


def solved(documents: list[dict]) -> list[str]:
    """Successes of all episodes of each task; a task that was not played is empty."""
    out = []
    for task in TASKS:
        parts = [d["tasks"][f"metaworld/{task}"] for d in documents if f"metaworld/{task}" in d["tasks"]]
        won, played = (sum(part[count] for part in parts) for count in ("successes", "episodes"))
        out.append(f"{won}/{played}" if parts else "")
    return out


def every(documents: list[dict]) -> list[str]:
    """Runs of several seeds as if they were one: each pair is of one start and one seed."""
    won, played = (sum(d[count] for d in documents) for count in ("successes", "episodes"))
    low, high = wilson(won, played)
    pairs, found_all = [d.get("against") for d in documents], ""
    if None not in pairs:
        counts = {who: sum(pair[who] for pair in pairs) for who in ("both", "first", "second", "neither")}
        found_all = against(pairs[0] | Pairs(**counts).plain())
    return [f"{won / played:.2f} [{low:.2f}, {high:.2f}]", *solved(documents), found_all]


WALKS = {  # the row that acts -> its solvers, with the steps of each
    "uwm": {"euler": (1, 2, 3, 10), "dpm++": (3,), "unipc": (3,)},
    "ddpm_ends": {"euler": (2, 5, 10), "dpm++": (2, 5, 10), "unipc": (2, 5, 10)},
}


def walks() -> str:
    """Steps and solvers against success."""
    rows = []
    for name, solvers in WALKS.items():
        for solver, counts in solvers.items():
            word = "DDIM" if (name, solver) == ("ddpm_ends", "euler") else solver
            for count in counts:
                document = found(name, 0, f"{solver}-{count}")
                cells = (share(document), f"{document['latency_ms']['p50']:.0f}") if document else ("not run", "")
                rows.append(row(ROWS[name][0], word, str(count), *cells))
    return table(("who acts", "solver", "steps", "success, 20 starts of each task", "ms a call"), rows)


def share(document: dict) -> str:
    """The mean over tasks, with its interval."""
    mean = document["mean"]
    return f"{mean['share']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]"


def without_video() -> str:
    """Acting without tokens for the video: by a network that was trained to, and by one that never met it."""
    rows = []
    for name, kind, words in (("alone", "rollout", ""), ("uwm", "bare", ", asked without tokens for the video")):
        document = found(name, 0, kind)
        cells = (not_run(name) if kind == "rollout" else "not run", "", "")
        if document:
            least = (document.get("against") or {}).get("low")
            sure = "" if least is None else "yes" if least > -0.1 else "no"
            cells = (share(document), against(document.get("against")) or "not compared", sure)
        rows.append(row(ROWS[name][0] + words, *cells))
    return table(("who acts", "mean over tasks", "minus UWM", "surely less than 10 points worse"), rows)


def planning() -> str:
    """The policy alone and choosing among its own answers, on the same starts."""
    document = found("uwm", 0, "planning")
    if not document:
        return "not run"
    head = ("who acts", "mean over tasks", "minus the policy alone, on the same starts")
    return table(
        head, [row("best of 8 by what the forward model predicts", share(document), against(document.get("against")))]
    )


def questions() -> str:
    """What every system (its first seed) answers about episodes that it has not seen."""
    rows, groups = [], {}
    for name in ANSWERS:
        document, title = found(name, 0), ROWS[name][0]
        if not document:
            rows.append(row(title, not_run(name), *[""] * (len(ASKED) + 1)))
            continue
        asked = document["questions"]
        cells = [number(asked.get(q, {}).get("errors", {}).get(m), digits) or "not asked" for q, m, digits in ASKED]
        ways = (found(name, 0, kind) for kind in ("tracking", "goal"))
        rows.append(row(title, *cells, *(f"{w['successes']}/{w['episodes']}" if w else "" for w in ways)))
        for series, errors in yardsticks(asked).items():
            together(groups.setdefault(series, []), errors, f"`{name}`")
    for series, lines in groups.items():
        for errors, whose in lines:
            cells = (errors.get((q, m), "") for q, m, _ in ASKED)
            rows.append(row(f"{series} (windows of {', '.join(whose)})", *cells, "", ""))
    words = {"action.error": "action error", "video.psnr": "PSNR, dB", "video.mse_moving": "MSE where it moves"}
    asks = (f"{q}: {words[m]}" for q, m, _ in ASKED)
    return table(("who answers", *asks, "tracking an expert", "towards a picture of the goal"), rows)


def yardsticks(asked: dict) -> dict[str, dict]:
    """What one document says of answers that cost nothing: series -> (question, measure) -> number."""
    out: dict[str, dict] = {}
    for question, measure, digits in ASKED:
        for series, errors in asked.get(question, {}).get("beside", {}).items():
            if measure in errors and "shuffled" not in series:
                out.setdefault(series, {})[question, measure] = number(errors[measure], digits)
    return out


def together(groups: list[tuple[dict, list[str]]], errors: dict, whose: str) -> None:
    """Documents that say the same of a yardstick share a line: those whose windows are others have one of their own."""
    for known, rows in groups:
        both = known.keys() & errors.keys()
        if both and all(known[k] == errors[k] for k in both):
            known.update(errors)
            rows.append(whose)
            return
    groups.append((dict(errors), [whose]))


def horizon() -> str:
    """Error of chained forward predictions, chunk by chunk."""
    document = found("uwm", 0)
    if not document:
        return not_run("uwm")
    rows = []
    for label, part in document["probes"]["horizon"]["rows"].items():
        beside = {who: number(m["video.mse"], 4) for who, m in part["beside"].items() if "video.mse" in m}
        shuffled = next((v for who, v in beside.items() if "shuffled" in who), "")
        rows.append(row(label, number(part["errors"]["video.mse"], 4), shuffled, beside.get("copy first frame", "")))
    return table(("chunk", "forward model, MSE", "with shuffled actions", "first frame held"), rows)


def counterfactual() -> str:
    """Whether other actions change the predicted picture as they change the simulator's."""
    rows, document = [], found("uwm", 0) or {}
    for world, part in document.get("probes", {}).get("counterfactual", {}).get("rows", {}).items():
        shuffled = next((m for who, m in part["beside"].items() if "shuffled" in who), {})
        mine = part["errors"]
        cells = (mine.get("video.cosine"), shuffled.get("video.cosine"), mine.get("video.explained"))
        rows.append(row(world, *map(number, cells)))
    head = ("world", "cosine of the change", "with shuffled actions", "share explained")
    return table(head, rows) if rows else not_run("uwm")


def varied() -> str:
    """Success where the world looks otherwise, beside that where it does not, from the same starts."""
    rows = []
    for name in SYSTEMS:
        for looks in VARIATIONS:
            document = found(name, 0, looks)
            cells = (not_run(name, runs=VARIED / default_of("uwm.sh", "EPISODES"), training=False), "", "")
            if document:
                pair = document["against"]
                pairs = [pair[who] for who in ("both", "first", "second", "neither")]
                won, played = pairs[0] + pairs[2], sum(pairs)
                low, high = wilson(won, played)
                without = f"{won / played:.2f} [{low:.2f}, {high:.2f}]"
                least, most = (f"{pair[end]:+.2f}" for end in ("low", "high"))
                minus = f"{pair['difference']:+.2f} [{least}, {most}], p = {pair['p_value']:.2g}"
                cells = (share(document), without, minus)
            rows.append(row(ROWS[name][0], looks, *cells))
    head = ("who acts", "variation", f"success, {VARIED} starts of each task", "without, same starts", "difference")
    return table(head, rows)


def others() -> str:
    """The paper's other experiments: those that have no row of their own."""
    films = "`labelled25_people` is the nearest that can be had here"
    rows = [row("internet video", films, not_run("labelled25_people"))]
    return table(("experiment", "what it needs", ""), rows)


def parts() -> dict[str, str]:
    """Every generated part, by its mark."""
    return {
        "uwm-ledger": ledger("uwm", {n: (title, SEEDS.get(n, 1)) for n, (title, _) in ROWS.items()}, not_run),
        "uwm-speed": speeds(),
        "uwm-call": call(),
        "uwm-latency": latency(),
        "uwm-systems": success(*SYSTEMS),
        "uwm-questions": questions(),
        "uwm-horizon": horizon(),
        "uwm-counterfactual": counterfactual(),
        "uwm-times": success("uwm", "shared"),
        "uwm-target": success("uwm", "current", "diffusion_policy"),
        "uwm-labels": success("uwm", "labelled25", "labelled25_video", "labelled25_people"),
        "uwm-paths": success("flow_ends", "flow_bare", "ddpm_ends", "ddpm_bare"),
        "uwm-registers": success("uwm", "registers0", "context"),
        "uwm-without-video": without_video(),
        "uwm-crops": success("uwm", "crops"),
        "uwm-walks": walks(),
        "uwm-planning": planning(),
        "uwm-demos": success("demos50", "labelled25", "demos200", "uwm"),
        "uwm-pretraining": success("scratch", "finetuned"),
        "uwm-variations": varied(),
        "uwm-others": others(),
    }


def measured(out: Path) -> dict:
    """What the short runs out/speed-NAME-5 and -35 took."""
    systems = {}
    for name in ("uwm", "diffusion_policy", "pad", "gr1", "context"):
        spent = [sum(map(float, (out / f"speed-{name}-{n}.times").read_text().split()[-2:])) for n in (5, 35)]
        run = out / f"speed-{name}-35"
        logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        rates = [line["steps_per_s"] for line in logged if line["kind"] == "train" and line["step"] > 5]
        played = [json.loads(line) for line in (run / "rollout" / "ledger.jsonl").read_text().splitlines()]
        rolled = json.loads((run / "rollout" / "rollout.json").read_text())
        systems[name] = {
            "steps_per_s": len(rates) / sum(1 / rate for rate in rates),
            "cpu_seconds_a_step": (spent[1] - spent[0]) / 30,
            "ms_a_call": rolled["latency_ms"]["p50"],
            "seconds_an_episode": sum(line["seconds"] for line in played) / len(played),
        }
    about = {"command": "runs/uwm.sh speed", "date": time.strftime("%F")}
    about |= {"load": os.getloadavg(), "cores": os.cpu_count()}
    return about | {"systems": systems}


if __name__ == "__main__":
    source, target = sys.argv[1:]
    Path(target).write_text(json.dumps(measured(Path(source)), indent=1) + "\n")
    print(f"wrote {target}")
