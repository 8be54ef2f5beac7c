#!/usr/bin/env bash
# The shipped model, from an empty disk: collect, train, act, estimate, and write checkpoints/tabletop and JSON.
#
#   runs/tabletop.sh                       both networks: all modalities, and actions alone
#   STEPS=8500 MINUTES=100 runs/tabletop.sh
#
# The same command goes on with what was interrupted. Two processes of one thread each train a third faster than one of
# two threads on two cores. The evaluation starts are the published ones; no training start is among them. What the run
# writes lies in runs/out/tabletop; what is committed is runs/results/tabletop*.json and checkpoints/tabletop.
set -euo pipefail
mkdir -p runs/out runs/results checkpoints
bin=${BIN:-.venv/bin}
out=runs/out/tabletop
shipped=checkpoints/tabletop
tasks=drawer-close,drawer-open,window-open,button-press-topdown,handle-press
steps=${STEPS:-8500}
export OMP_NUM_THREADS=1 MUJOCO_GL=egl

collect() { "$bin/polyclock" collect "metaworld/$tasks" --cameras corner2 --flow-steps 8 --noise 0.25 --workers 2 "$@"; }

# What is always at a place is learnt ten times faster than the rest: it is a mean, and has to be there first.
train() {
    "$bin/python" -m torch.distributed.run --standalone --nproc-per-node 2 -m polyclock.cli train tabletop \
        --data "$out/training" --hold-out 395-399 --batch-size 32 --lr 1e-3 --warmup 200 --weight-decay 0.05 \
        --ema 0.999 --validate-every 1000 --checkpoint-every 250 --log-every 25 --workers 1 --device cpu "$@"
}

# learn NAME [flags]: train a network until its steps or minutes are over, and write down what it cost. That ledger says
# that it is done: it does not get its minutes a second time.
learn() {
    local ledger=$out/$1/ledger.json
    if [ ! -f "$ledger" ]; then
        train --out "$out/$1" "${@:2}"
        python3 tools/ledger.py "$out/$1" "$ledger" "runs/tabletop.sh"
    fi
    cp "$ledger" "runs/results/tabletop-$1.ledger.json"
}

# roll RUN WORLD OUT [more flags]: 50 published starts of each task. What is committed is what a whole rollout wrote.
roll() {
    "$bin/polyclock" rollout "$1" --checkpoint last --world "metaworld/$2" --episodes 50 --steps 1 --workers 2 \
        --out "$out/rollouts/$3" "${@:4}"
    cp "$out/rollouts/$3/rollout.json" "runs/results/tabletop-$3.rollout.json"
}

collect --episodes 80 --out "$out/training"
collect --episodes 10 --split evaluation --out "$out/held_out"
learn whole --steps "$steps" --factors ground=10 --time-limit "${MINUTES:-100}"
# As many steps as the other took, wherever its minutes ended.
learn acting --steps "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["steps"])' "$out/whole/ledger.json")" \
    --no-pictures
# What is shipped is what is measured, with the record of its training beside it.
"$bin/python" tools/ship.py "$out/whole" "$shipped"
cp "$out/whole/run.json" "$out/whole/log.jsonl" "$shipped"
roll "$out/acting" "$tasks" acting
roll "$shipped" "$tasks" whole --against "$out/rollouts/acting/ledger.jsonl"
roll "$shipped" reach,pick-place apart
"$bin/polyclock" evaluate "$shipped" --data "$out/held_out" --training "$out/training" --windows 100 --steps 1 \
    --world metaworld/drawer-open --out runs/results/tabletop.json
"$bin/polyclock" report "$shipped" --evaluation runs/results/tabletop.json --rollout "$out/rollouts/whole" \
    --name "all modalities" --beside "actions alone=$out/rollouts/acting" --data "$out/held_out" --steps 1 \
    --out "$out/report.html"
"$bin/python" tools/results.py
