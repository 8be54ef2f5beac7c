"""Writes the tables of docs/results.md from the JSON that scripts in runs/ and benchmarks/ wrote.

python tools/results.py            write the tables anew, between the marks; a test compares
"""

from __future__ import annotations

import results_dream
import results_tabletop
import results_unity
import results_uwm
from tables import ROOT, load, number, row, table

from polyclock.evaluate.table import sizes

PAGE = ROOT / "docs" / "results.md"
RUNS = {"g1": "Unitree G1, real", "gr1": "GR1 humanoid, simulated"}
ORDER = ("policy", "inverse", "joint", "forward", "video")


def ledger() -> str:
    """Runs and what they cost."""
    rows = []
    titles = RUNS | {f"tabletop-{name}": f"tabletop, {title}" for name, title in results_tabletop.NETWORKS.items()}
    for name, title in titles.items():
        cost = load(f"runs/results/{name}.ledger.json")
        if cost:
            wait = f"{100 * cost['data_wait']:.1f} %"
            rows.append(
                row(title, cost["steps"], cost["best_step"], f"{cost['minutes']:.0f}", wait, f"`{cost['command']}`")
            )
    world = load("runs/results/known_world.json")
    if world:
        rows.append(
            row(
                "known world",
                world["steps"],
                "-",
                f"{world['seconds'] / 60:.1f}, answers included",
                "-",
                f"`{world['command']}`",
            )
        )
    return table(("run", "steps", "best step", "minutes of training steps", "waiting for data", "command"), rows)


def known_world() -> str:
    """Errors against the known answers."""
    world = load("runs/results/known_world.json")
    if not world:
        return "not run"
    bounds = {
        "forward": "below 0.1",
        "inverse": "below 0.05",
        "joint": "below 0.1",
        "policy_abs": "0.9 to 1.1",
        "policy_tv": "at most 0.05",
    }
    return table(("question", "found", "required"), [row(n, world["answers"][n], b) for n, b in bounds.items()])


def questions(name: str) -> str:
    """Errors of one run, with 95 % intervals."""
    document = load(f"runs/results/{name}.json")
    if not document:
        return "not run"
    rows = []
    for question in ORDER:
        part = document["questions"].get(question)
        if not part:
            continue
        for series, errors in {"model": part["errors"], **part.get("beside", {})}.items():
            cells = [errors.get(k) for k in ("action.error", "video.mse", "video.psnr", "video.ssim")]
            shown = [number(c, 4 if i == 1 else 3 if i != 2 else 2) if c else "" for i, c in enumerate(cells)]
            rows.append(
                row(
                    f"`{part['query']}`" if series == "model" else "", question if series == "model" else series, *shown
                )
            )
    head = ("query", "who answers", "action error (std)", "video MSE", "PSNR, dB", "SSIM")
    return table(head, rows)


def comparisons(name: str) -> str:
    """Paired differences of one run."""
    document = load(f"runs/results/{name}.json")
    if not document:
        return "not run"
    rows = [
        row(c["first"], c["second"], f"`{c['measure']}`", number(c, 4), c["verdict"]) for c in document["comparisons"]
    ]
    lines = [f"Held out: episode {document['data']['episodes']}, {sizes(document)}.", ""]
    lines.append(table(("A", "B", "measure", "A - B", "A is"), rows))
    if document["notes"]:
        lines += ["", *[f"- {note}" for note in document["notes"]]]
    return "\n".join(lines)


def kills() -> str:
    document = load("runs/results/kill.json")
    if not document:
        return "not run"
    return table(
        ("what", "count"),
        [row(k.replace("_", " "), v) for k, v in document.items() if isinstance(v, int | float | bool)],
    )


def decoding() -> str:
    """Frames per second beside other readers, as ratios."""
    document = load("benchmarks/results/decode.json")
    if not document:
        return "not run"
    rows = []
    for result in document["results"]:
        for reader, speed in result["readers"].items():
            if reader == "ours":
                continue
            least, most = speed["ours_divided_by_it_least"], speed["ours_divided_by_it_most"]
            ratio = f"{speed['ours_divided_by_it_median']:.2f}x [{least:.2f}, {most:.2f}]"
            rows.append(row(result["files"], result["spacing"], reader, ratio))
    load_text = f"load average {document['load_before'][0]:.1f} before, {document['load_after'][0]:.1f} after"
    command = f"`{document['command']}`, {document['rounds']} rounds, taking turns; {load_text}."
    return command + "\n\n" + table(("files", "frame spacing", "beside", "ours / it: median [least, most]"), rows)


def parts() -> dict[str, str]:
    """Every generated part of the page, by its mark."""
    out = {"ledger": ledger(), "known-world": known_world(), "kills": kills(), "decoding": decoding()}
    for name in RUNS:
        out[f"{name}-questions"], out[f"{name}-comparisons"] = questions(name), comparisons(name)
    return out | results_tabletop.parts() | results_uwm.parts() | results_unity.parts() | results_dream.parts()


def written(page: str) -> str:
    """The page with every generated part put between its marks."""
    for name, text in parts().items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        assert begin in page and end in page, f"docs/results.md lacks the marks of {name!r}"
        head, rest = page.split(begin)
        page = head + begin + "\n\n" + text + "\n\n" + end + rest.split(end)[1]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    print(f"wrote {PAGE.relative_to(ROOT)}")
