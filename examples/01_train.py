"""Train a small world model on robot episodes, in ten lines.

    python examples/01_train.py DATASET RUN [--steps N]

DATASET is a LeRobot data set (v2.0, v2.1 or v3.0). The same command resumes; the weights to use lie in RUN/model.
"""

from __future__ import annotations

import argparse

from polyclock import open_dataset
from polyclock.recipes import tiny
from polyclock.train import Training
from polyclock.train.job import train

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    dataset = open_dataset(args.dataset)
    recipe = tiny(cameras=dataset.facts.cameras)
    last = dataset.episodes[-1].index
    result = train(
        recipe,
        dataset,
        Training(steps=args.steps, batch_size=16, lr=2e-3, warmup=20),
        args.run,
        held_out=[last],
        stride=3,
    )
    print(f"{result.step} steps; validation loss {result.best_loss:.4f} on episode {last}")
