#!/usr/bin/env bash
# One network for video and five maps of people, beside networks of one map, of one task, and without its parts: the rows
# of the tables of docs/results.md, section "UnityVideo".
#
#   runs/people.sh names              the rows there are, the most important first
#   runs/people.sh row NAME SEED      one row: train, losses of every task at eight checkpoints, answer every question
#   runs/people.sh zero SEED          what was never shown: two people by one who saw one, robots by one who saw people
#   runs/people.sh all                all of them
#   runs/people.sh speed              how fast each kind of row trains and answers here, for the hours of what is not run
#
# The same command goes on with what was interrupted, and does not repeat what is done. STEPS, CLIPS, WINDOWS, SOLVER,
# PROCESSES and DEVICE are variables. All rows have the same backbone (size tiny, 64 px), batches, steps and data, but
# for what their name says. What a run writes lies in runs/out/people; what is committed is runs/results/unity-*.json.
set -euo pipefail
bin=${BIN:-.venv/bin}
out=${OUT:-runs/out/people}
results=${RESULTS:-runs/results}
steps=${STEPS:-2500} clips=${CLIPS:-300} windows=${WINDOWS:-60} solver=${SOLVER:-10} device=${DEVICE:-cpu}
maps=(depth flow segmentation skeleton surface)
export OMP_NUM_THREADS=1 MUJOCO_GL=egl

names() {
    cat <<'ROWS'
joint
single-depth single-flow single-segmentation single-skeleton single-surface
no-switcher no-context neither shared-heads rgb-only
estimate-depth estimate-flow estimate-segmentation estimate-skeleton estimate-surface
one-person
control-depth control-flow control-segmentation control-skeleton control-surface
together-depth together-flow together-segmentation together-skeleton together-surface
table own-ends same-places released-times
ROWS
}

# describe NAME SEED: sets what it is trained on (from), with which flags (flags), and what is probed (probes): whether
# what is generated together is of one world.
describe() {
    local map=${1#*-}
    from=$out/training flags=(--seed "$2") probes=none
    case $1 in
    joint) probes=world ;;
    single-*) flags+=(--maps "$map") probes=world ;;
    estimate-*) flags+=(--maps "$map" --control 0 --joint 0 --estimate 1) ;;
    control-*) flags+=(--maps "$map" --control 1 --joint 0 --estimate 0) ;;
    together-*) flags+=(--maps "$map" --control 0 --joint 1 --estimate 0) ;;
    no-switcher) flags+=(--switcher none) ;;
    no-context) flags+=(--context caption) ;;
    neither) flags+=(--switcher none --context caption) ;;
    shared-heads) flags+=(--outputs all) ;;
    rgb-only) flags+=(--maps "") ;;
    table) flags+=(--switcher table) ;;
    own-ends) flags+=(--inputs own) ;;
    same-places) flags+=(--place same) ;;
    released-times) flags+=(--clean highest --shift 5) ;;
    one-person) from=$out/alone ;;
    *)
        echo "unknown row $1; possible: $(names | tr '\n' ' ')" >&2
        return 2
        ;;
    esac
}

# Every clip has a caption and the exact truth of all five maps.
collect() { "$bin/polyclock" collect people --flow-steps 4 --workers "${PROCESSES:-2}" "$@"; }

data() {
    collect --clips "$clips" --out "$out/training"
    collect --clips "$((clips / 5))" --seed 1 --out "$out/held_out"
}

# learn RUN STEPS [flags]: train until the steps are done, two processes of one thread each.
learn() {
    local run=$1
    mkdir -p "$run"
    # The pictures are decoded once for all rows.
    [ -e "$run/cache" ] || ln -sn ../cache "$run/cache"
    "$bin/python" -m torch.distributed.run --standalone --nproc-per-node "${PROCESSES:-2}" -m polyclock.cli train \
        unityvideo --data "$from" --out "$run" --hold-out none --batch-size 16 --steps "$2" --lr 1e-3 --warmup 200 \
        --weight-decay 0.05 --ema 0.995 --validate-every 0 --log-every 25 --workers 1 --device "$device" \
        "${flags[@]}" "${@:3}"
}

# ask RUN NAME DATA [flags]: every question that the network was trained on, beside baselines, on all processors.
ask() {
    if [ -f "$results/unity-$2.json" ]; then return; fi
    OMP_NUM_THREADS=${PROCESSES:-2} "$bin/polyclock" evaluate "$1" --checkpoint last --data "$3" --training "$from" \
        --windows "$windows" --steps "$solver" --probes none --device "$device" --out "$results/unity-$2.json" "${@:4}"
}

row() {
    local name=$1 seed=$2 run=$out/$1-$2
    data
    if [ "$name" = one-person ]; then
        collect --clips "$clips" --pairs 0 --out "$out/alone"
    fi
    describe "$name" "$seed"
    if [ ! -f "$results/unity-$name-$seed.ledger.json" ]; then
        learn "$run" "$steps" --checkpoint-every "$(((steps + 7) / 8))" --keep 8
        OMP_NUM_THREADS=${PROCESSES:-2} "$bin/python" tools/task_losses.py "$run" --windows "$((windows * 4 / 5))" \
            --data "$out/held_out" --out "$results/unity-$name-$seed.losses.json"
        python3 tools/ledger.py "$run" "$results/unity-$name-$seed.ledger.json" "runs/people.sh row $name $seed"
    fi
    ask "$run" "$name-$seed" "$out/held_out" --probes "$probes"
}

# What was never shown. The robot's columns go by the names of the people's; only what both worlds mean alike is asked.
zero() {
    local seed=$1 kind
    row one-person "$seed"
    row joint "$seed"
    collect --clips "$((clips / 5))" --seed 2 --pairs 1 --out "$out/two"
    "$bin/polyclock" collect metaworld/drawer-open,window-open --episodes 5 --cameras corner2 --flow-steps 16 \
        --split evaluation --workers "${PROCESSES:-2}" --out "$out/robots"
    local renamed=
    for kind in images depth flow; do
        renamed+="${renamed:+,}observation.$kind.corner2:observation.$kind.main"
    done
    for kind in one-person joint; do
        describe "$kind" "$seed"
        ask "$out/$kind-$seed" "$kind-$seed.two" "$out/two"
    done
    describe joint "$seed"
    ask "$out/joint-$seed" "joint-$seed.robots" "$out/robots?rename=$renamed" \
        --only "depth from video,flow from video,video from depth,video from flow"
}

everything() {
    local name
    for name in joint single-depth single-flow no-switcher no-context; do
        row "$name" 0
    done
    for name in $(names); do row "$name" 0; done
    for name in $(names); do row "$name" 1; done
    zero 0
}

# Of each kind of row: processor's seconds of 5 and of 35 steps, and of the answers to 2 and to 6 windows.
speed() {
    local name count TIMEFORMAT='%U %S'
    data
    for name in joint single-depth estimate-depth rgb-only table; do
        describe "$name" 0
        for count in 5 35; do
            rm -rf "$out/speed-$name-$count"
            { time learn "$out/speed-$name-$count" "$count" --warmup 2 2>&1; } 2>"$out/speed-$name-$count.times"
        done
        for count in 2 6; do
            { time "$bin/polyclock" evaluate "$out/speed-$name-35" --checkpoint last --data "$out/held_out" \
                --training "$from" --windows "$count" --steps "$solver" --probes none --device "$device" \
                --out "$out/speed.json" 2>&1; } 2>"$out/speed-$name-asked-$count.times"
        done
    done
    "$bin/python" tools/results_unity.py "$out" "$results/unity-speed.json"
}

case ${1:-help} in
row | zero | all | speed) mkdir -p "$out/cache" "$results" ;;
esac
case ${1:-help} in
names) names ;;
row) row "$2" "$3" ;;
zero) zero "$2" ;;
all) everything ;;
speed) speed ;;
*) sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//' ;;
esac
