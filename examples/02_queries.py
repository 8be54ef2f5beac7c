"""Ask one model many questions: policy, dynamics, a plan of which the first steps are fixed, guidance.

    python examples/02_queries.py RUN DATASET

RUN is what examples/01_train.py wrote.
"""

from __future__ import annotations

import sys
from pathlib import Path

from polyclock import Guide, from_pretrained, open_dataset, sample
from polyclock.data import Windows, collate

if __name__ == "__main__":
    model = from_pretrained(Path(sys.argv[1]) / "model")
    dataset = open_dataset(sys.argv[2])
    signals = model.recipe.signals()
    windows = Windows(dataset.only([dataset.episodes[-1].index]), signals)
    batch = collate([windows[30], windows[60]], [0, 1], signals)
    video, action = batch.values["video"], batch.values["action"]
    now = {"text": batch.values["text"], "state": batch.values["state"]}

    answers = {
        "a policy": sample(model, "action | video[:1], text, state", video=video[:, :1], **now),
        "forward dynamics": sample(model, "video[1:] | video[:1], action", video=video[:, :1], action=action),
        "inverse dynamics": sample(model, "action | video", video=video),
        "both at once": sample(model, "video, action | state", state=now["state"]),
        "the first steps are fixed": sample(
            model, "action[k:] | action[:k], video[:1]", k=2, action=action[:, :2], video=video[:, :1]
        ),
        "the same, steered by the text": sample(
            model,
            "action | video[:1], text",
            video=video[:, :1],
            text=now["text"],
            guides=(Guide(weight=2.0, drop={"text"}),),
        ),
    }
    for name, answer in answers.items():
        shapes = ", ".join(f"{n} {tuple(v.shape)}" for n, v in answer.items())
        error = f"   action error {(answer['action'] - action).abs().mean():.3f}" if "action" in answer else ""
        print(f"{name:32s} {shapes}{error}")
