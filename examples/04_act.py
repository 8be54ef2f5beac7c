"""Let the shipped model act: a few episodes of a task, how many it solved, and a film of them.

    python examples/04_act.py [--task drawer-open] [--episodes 4] [--model checkpoints/tabletop] [--out FILE.mp4]

Needs the simulator: pip install 'polyclock[sim]'. A box stays red until its episode succeeds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from polyclock import Policy, World, from_pretrained
from polyclock.rollout import policy_query
from polyclock.rollout.grid import write_grid

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="drawer-open")
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[1] / "checkpoints" / "tabletop")
    parser.add_argument("--out", default="act.mp4")
    args = parser.parse_args()
    if not args.model.is_dir():
        sys.exit(f"{args.model} is not there: this checkout has no shipped model; name one with --model FOLDER")
    model = from_pretrained(args.model)
    policy = Policy(model, policy_query(model), execute=4, steps=10)
    with tempfile.TemporaryDirectory() as clips:
        found = World(f"metaworld/{args.task}", num_envs=2).evaluate(policy, args.episodes, clips=clips)
        found.show()
        print(f"wrote {write_grid(args.out, found.rows, clips)}")
