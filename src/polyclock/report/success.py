"""What a run did in a simulated world: shares of solved episodes with intervals, the film, the ledger of episodes."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluate.intervals import wilson
from ..evaluate.paired import Pairs
from ..rollout.ledger import read as read_ledger
from ..rollout.outcome import Share, comparison, ended_early, matched, mean_share, percent
from .bars import Bar, bars
from .markup import Markup, element, pairs, table

ROLLOUT = "rollout"  # the folder of a run that holds it
FILM = 2_000_000  # bytes; a larger film is made smaller
EPISODES = 400  # of the ledger that are listed


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A rollout document, the rows of its ledger that it counts (empty where there is none), and its film."""

    name: str
    document: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    film: Path | None = None

    @property
    def shares(self) -> dict[str, Share]:
        """Task -> what was solved."""
        found = {}
        for task, said in self.document["tasks"].items():
            low, high = wilson(said["successes"], said["episodes"])
            found[task] = Share(
                successes=said["successes"],
                episodes=said["episodes"],
                crashed=said.get("crashed", 0),
                low=low,
                high=high,
            )
        return found


def read_rollout(path: str | Path, name: str) -> Rollout:
    """A folder that `polyclock rollout` wrote, or a document alone: {"tasks": {task: {"successes", "episodes"}}}.

    Errors: ValueError where it is neither.
    """
    path = Path(path)
    file = path / "rollout.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{path} is no rollout: there is no {'rollout.json in it' if path.is_dir() else 'such file'}")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        good = all({"successes", "episodes"} <= set(t) and t["episodes"] for t in document["tasks"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        good, document = False, {}
    if not good or not document["tasks"]:
        raise ValueError(f"{file} is no rollout document: it needs tasks with successes and episodes")
    ledger, film = file.parent / "ledger.jsonl", file.parent / "grid.mp4"
    own = path.is_dir()
    rows = read_ledger(ledger) if own and ledger.is_file() else []
    # A ledger may hold more than the last rollout was asked for.
    counted = {task: said["episodes"] for task, said in document["tasks"].items()}
    return Rollout(
        name=name,
        document=document,
        rows=[row for row in rows if row["number"] < counted.get(row["task"], 0)],
        film=film if own and film.is_file() else None,
    )


def success(own: Rollout | None, beside: Sequence[Rollout], hint: str) -> list[Markup]:
    """Bars by task, the film and the ledger; `hint` is the command that would make them."""
    every = [r for r in (own, *beside) if r is not None]
    if not every:
        return [
            element(
                "p", "Nobody let this run act yet. This command would, and the page shows it then:", class_="quiet"
            ),
            element("pre", hint),
        ]
    lead = (
        "An episode is solved if the world says so at any step. All begin at the published evaluation starts. "
        "Whiskers: 95\u00a0% intervals, Wilson's for a task."
    )
    out = [element("p", lead), _bars(every)]
    if own is None:
        return out
    out += _verdicts(own.document)
    out += [element("p", text) for text in _against(own, beside)]
    if own.film:
        out.append(_film(own.film))
    facts = [(k, v) for k, v in (own.document.get("about") or {}).items() if k != "model"]
    facts.append(("milliseconds a call", _latency(own.document.get("latency_ms"))))
    facts.append(("weights", (own.document.get("model") or {}).get("sha256", "")[:16]))
    how = pairs((k.replace("_", " "), _said(v)) for k, v in facts if v not in (None, ""))
    out.append(element("details", element("summary", "How it acted"), how))
    return [*out, *_ledger(own)]


def headline(own: Rollout, beside: Sequence[Rollout] = ()) -> tuple[str, str, str]:
    """(what, share, more) for the top of the page."""
    shares = own.shares
    mean, low, high = mean_share(list(shares.values()))
    others = "".join(f"; {r.name}: {_counts(r)}" for r in beside if set(r.shares) == set(shares))
    what = f"solved, mean of {len(shares)} tasks" if len(shares) > 1 else f"solved: {next(iter(shares))}"
    return what, percent(mean), f"{_counts(own)} episodes, interval {percent(low)} to {percent(high)}{others}"


def _counts(rollout: Rollout) -> str:
    """ "9 of 16"."""
    shares = rollout.shares.values()
    return f"{sum(s.successes for s in shares)} of {sum(s.episodes for s in shares)}"


def _bars(every: Sequence[Rollout]) -> Markup:
    tasks = list(dict.fromkeys(task for r in every for task in r.shares))
    rows = []
    for task in tasks:
        for color, r in enumerate(every):
            if share := r.shares.get(task):
                more = (f"{share.successes} of {share.episodes}", percent(share.share), _span(share.low, share.high))
                rows.append(Bar(group=task, name=r.name, value=share.share, low=share.low, high=share.high,
                                color=color, more=more))  # fmt: skip
    if len(tasks) > 1:
        for color, r in enumerate(every):
            shares = list(r.shares.values())
            mean, low, high = mean_share(shares)
            more = (_counts(r), percent(mean), _span(low, high))
            rows.append(Bar(group=f"mean of {len(shares)} tasks", name=r.name, value=mean, low=low, high=high,
                            color=color, more=more))  # fmt: skip
    columns = ("task", "who acts", "share of episodes solved", "solved", "share", "interval")
    return bars(rows, columns)


def _against(own: Rollout, beside: Sequence[Rollout]) -> list[str]:
    """A sentence for each other ledger that has starts in common."""
    out = []
    for other in beside:
        if not own.rows or not other.rows:
            continue
        try:
            mine, theirs = matched(own.rows, other.rows)
        except ValueError:
            continue
        met = Pairs.of([r["success"] for r in mine], [r["success"] for r in theirs])
        early = any(ended_early(r.document.get("verdicts") or {}) for r in (own, other))
        out.append(comparison(met, own.name, other.name, early=early).rstrip(".") + ".")
    return out


def _verdicts(document: Mapping[str, Any]) -> list[Markup]:
    """What a sequential test said of each task, where one ended it."""
    found, about = document.get("verdicts") or {}, document.get("enough") or {}
    if not found:
        return []
    if about.get("paired"):
        asked = "who solves more of the starts that one of the two solves alone"
        said, counted = {"above": "this one", "below": "the other"}, "such starts"
        asked += f" (the other: {(document.get('against') or {}).get('ledger', 'another ledger')})"
    else:
        asked, said, counted = "whether its share of solved episodes is high enough", {}, "episodes"
        if "threshold" in about:
            line = percent(about["threshold"])
            asked, said = (
                f"whether its share lies above or below {line}",
                {w: f"{w} {line}" for w in ("above", "below")},
            )
    lead = (
        f"A task ended as soon as a sequential test was decided, which asks {asked}. Shares of tasks that ended so "
        "lean towards what the test said: read the verdict, not the share."
    )
    moods = {"above": "good", "below": "bad", "undecided": "open"}
    rows = []
    for task, one in found.items():
        word = element(
            "span", said.get(one["word"], one["word"]), class_=f"verdict {moods.get(one['word'], '')}".strip()
        )
        rows.append((task, word, one["trials"], f"{min(1.0, 2 * min(one['p_above'], one['p_below'])):.3g}"))
    return [element("p", lead), table(("task", "verdict", counted, "p, good at any moment"), rows)]


def _film(path: Path) -> Markup:
    data = path.read_bytes()
    if len(data) > FILM:
        data = _smaller(path)
    about = "Episodes side by side, a row for each task, at half speed: a frame turns green once its episode is solved"
    if len(data) > FILM:
        return element("p", f"The film of the episodes is too large for this page; it is {path}.", class_="quiet")
    video = element(
        "video",
        src=f"data:video/mp4;base64,{base64.b64encode(data).decode()}",
        controls=True,
        loop=True,
        muted=True,
        playsinline=True,
        preload="auto",
        width=_width(path),
        aria_label=about,
    )
    return element("figure", video, element("figcaption", f"{about}."), class_="film")


def _width(path: Path) -> int:
    """Pixels across that a film is shown with: twice its own, as long as it fits."""
    from ..data.video import read_frames

    return min(1080, 2 * read_frames(path, [0]).shape[2])


def _smaller(path: Path) -> bytes:
    """The film with half of its pictures, and coarser ones."""
    from ..data.encode import VideoCodec, VideoFile
    from ..data.video import pictures_of, read_frames

    film = pictures_of(path)
    rate = float(film.rate or 20)
    with tempfile.TemporaryDirectory() as folder:
        out, video = Path(folder) / "film.mp4", None
        for begin in range(0, len(film), 64):
            for frame in read_frames(path, range(begin, min(begin + 64, len(film)), 2)):
                codec = VideoCodec(encoder="h264", group=48, crf=30)
                video = video or VideoFile(out, rate / 2, frame.shape, codec)
                video.add(frame)
        assert video is not None
        video.close()
        return out.read_bytes()


def _ledger(own: Rollout) -> list[Markup]:
    if not own.rows:
        return []
    rows = []
    for row in list(own.rows)[:EPISODES]:
        said = element("span", "solved" if row["success"] else "not solved",
                       class_=f"verdict {'good' if row['success'] else 'bad'}")  # fmt: skip
        error = row.get("error") or ""
        rows.append((f"{row['task']}, start {row['number']}", said, row.get("steps", ""), row.get("calls", ""),
                     element("code", str(row["start"])), str(error)))  # fmt: skip
    count = len(own.rows)
    which = f"the first {EPISODES} of {count}" if count > EPISODES else f"all {count}"
    inner = table(("episode", "", "steps", "calls", "start", ""), rows)
    return [element("details", element("summary", f"Ledger: {which} episodes"), inner)]


def _latency(found: Mapping[str, float] | None) -> str:
    if not found:
        return ""
    return f"{found['mean']:.0f} in the mean, 95\u00a0% of an episode's calls at most {found['p95']:.0f}"


def _span(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k.replace('_', ' ')} {_said(v)}" for k, v in value.items() if v is not None)
    return ", ".join(map(_said, value)) if isinstance(value, list | tuple) else str(value)
