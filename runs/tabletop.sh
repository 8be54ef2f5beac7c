#!/usr/bin/env bash
# The shipped model, from an empty disk: collect, train, act, estimate, and write checkpoints/tabletop and JSON.
#
#   runs/tabletop.sh                 both networks: pictures and actions, and actions alone
#   MINUTES=60 runs/tabletop.sh      with less time for the first; the second takes as many steps
#
# Two processes of one thread each train a third faster than one of two threads on two cores. The evaluation starts are
# the published ones; no training start is among them.
set -euo pipefail
mkdir -p runs/out runs/results
bin=${BIN:-.venv/bin}
out=runs/out/tabletop
tasks=drawer-close,drawer-open,window-open,button-press-topdown,handle-press
worlds=metaworld/${tasks//,/,metaworld/}
export OMP_NUM_THREADS=1 MUJOCO_GL=egl

collect() { "$bin/polyclock" collect "metaworld/$tasks" --cameras corner2 --flow-steps 8 --workers 2 "$@"; }
train() {
    "$bin/python" -m torch.distributed.run --standalone --nproc-per-node 2 -m polyclock.cli train tabletop \
        --data "$out/training" --hold-out 245-249 --batch-size 32 --lr 8e-4 --warmup 200 \
        --weight-decay 0.05 --ema 0.999 --validate-every 500 --checkpoint-every 250 --log-every 25 --workers 1 "$@"
}

collect --episodes 50 --noise 0.15 --out "$out/training"
collect --episodes 10 --noise 0.15 --split evaluation --out "$out/held_out"
train --out "$out/whole" --steps "${STEPS:-3600}" --time-limit "${MINUTES:-100}"
train --out "$out/acting" --no-pictures --steps "${STEPS:-3600}"
for name in whole acting; do
    python3 tools/ledger.py "$out/$name" "runs/results/tabletop-$name.ledger.json" "runs/tabletop.sh"
    "$bin/polyclock" rollout "$out/$name" --checkpoint last --world "$worlds" --episodes 50 --workers 2 \
        --out "$out/$name/rollout" --json >"runs/results/tabletop-$name.rollout.json"
done
"$bin/polyclock" evaluate "$out/whole" --checkpoint last --data "$out/held_out" --out runs/results/tabletop.json
