#!/usr/bin/env bash
# The shipped model, from an empty disk: collect, train, act, estimate, and write checkpoints/tabletop and JSON.
#
#   runs/tabletop.sh                       both networks: all modalities, and actions alone
#   STEPS=8000 MINUTES=100 runs/tabletop.sh
#
# Two processes of one thread each train a third faster than one of two threads on two cores. The evaluation starts are
# the published ones; no training start is among them. What the run writes lies in runs/out/tabletop; what is committed
# is runs/results/tabletop*.json and checkpoints/tabletop.
set -euo pipefail
mkdir -p runs/out runs/results
bin=${BIN:-.venv/bin}
out=runs/out/tabletop
tasks=drawer-close,drawer-open,window-open,button-press-topdown,handle-press
steps=${STEPS:-8000}
export OMP_NUM_THREADS=1 MUJOCO_GL=egl

collect() { "$bin/polyclock" collect "metaworld/$tasks" --cameras corner2 --flow-steps 8 --noise 0.25 --workers 2 "$@"; }

# What is always at a place is learnt ten times faster than the rest: it is a mean, and has to be there first.
train() {
    "$bin/python" -m torch.distributed.run --standalone --nproc-per-node 2 -m polyclock.cli train tabletop \
        --data "$out/training" --hold-out 395-399 --steps "$steps" --batch-size 32 --lr 1e-3 --warmup 200 \
        --weight-decay 0.05 --ema 0.999 --validate-every 1000 --checkpoint-every 250 --log-every 25 --workers 1 \
        --device cpu "$@"
}

# roll RUN WORLD OUT [more flags]: 50 published starts of each task.
roll() {
    "$bin/polyclock" rollout "$1" --checkpoint last --world "metaworld/$2" --episodes 50 --steps 5 --workers 2 \
        --out "$out/rollouts/$3" --json "${@:4}" >"runs/results/tabletop-$3.rollout.json"
}

collect --episodes 80 --out "$out/training"
collect --episodes 10 --split evaluation --out "$out/held_out"
train --out "$out/whole" --factors ground=10 --time-limit "${MINUTES:-100}"
train --out "$out/acting" --no-pictures
for name in whole acting; do
    python3 tools/ledger.py "$out/$name" "runs/results/tabletop-$name.ledger.json" "runs/tabletop.sh"
done
roll "$out/acting" "$tasks" acting
roll "$out/whole" "$tasks" whole --against "$out/rollouts/acting/ledger.jsonl"
roll "$out/whole" reach,pick-place apart
"$bin/polyclock" evaluate "$out/whole" --checkpoint last --data "$out/held_out" --training "$out/training" \
    --windows 100 --steps 5 --world metaworld/drawer-open --out runs/results/tabletop.json
"$bin/python" tools/ship.py "$out/whole" checkpoints/tabletop
"$bin/polyclock" report "$out/whole" --evaluation runs/results/tabletop.json --data "$out/held_out" --out "$out/report.html"
"$bin/python" tools/results.py
