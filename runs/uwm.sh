#!/usr/bin/env bash
# UWM and the systems beside it in the tabletop world: the rows of every table of docs/results.md, section "UWM".
#
#   runs/uwm.sh names              the rows there are
#   runs/uwm.sh row NAME SEED      one row: train, act from 50 published starts of each task; seed 0 answers every question
#   runs/uwm.sh walks              row uwm 0 and row ddpm_ends 0 by other solvers and steps, 20 starts of each task
#   runs/uwm.sh plan               row uwm 0 plans: 8 chunks, the one that ends nearest the goal, 20 starts of each task
#   runs/uwm.sh varied             rows uwm, diffusion_policy, pad, gr1 0 in other light, another room, a messy
#                                  table, 20 starts of each task
#   runs/uwm.sh all                all of them, the most important first
#   runs/uwm.sh speed              how fast each system trains and acts here: a few steps, for the hours of what is not run
#
# It learns from what runs/tabletop.sh collected (DATA). The same command goes on with what was interrupted, and does not
# repeat what is done. STEPS, EPISODES, SOLVER (steps of the solver; regression takes one) and DEVICE are variables. All
# rows have the same backbone (size tiny, 64 px), batches, steps and data, but for what their name says. What a run writes
# lies in runs/out/uwm; what is committed is runs/results/uwm-*.json.
set -euo pipefail
bin=${BIN:-.venv/bin}
data=${DATA:-runs/out/tabletop}
out=${OUT:-runs/out/uwm}
results=${RESULTS:-runs/results}
steps=${STEPS:-1600} episodes=${EPISODES:-50} solver_steps=${SOLVER:-5} within=${WITHIN:-16} device=${DEVICE:-cpu}
tasks=drawer-close,drawer-open,window-open,button-press-topdown,handle-press
camera=observation.images.corner2
export OMP_NUM_THREADS=1 MUJOCO_GL=egl

# What all have, what those have that see through an eye, what those have that know video.
robot=(--cameras "$camera" --horizon 16 --action-rate 80 --text --optional --margin 8)
eye=(--history 1 --given tokens)
film=(--future 2 --still --relative --spread 0.1 --weight 100)
still=(--future 2 --still --spread 0.5 --weight 4) # where there is no difference: the present is the target
# Episode e is of task e modulo 5: 80 of each. Task 1 is the one that is new to what was trained on the others.
few="$data/training?episodes=0-99"
new="$data/training?episodes=1-99:5"
# The policy's question without tokens for the video.
bare="action | state, text, -video"
old="$data/training?episodes=0-399:5,2-399:5,3-399:5,4-399:5"

names() {
    cat <<'ROWS'
uwm diffusion_policy pad gr1
shared current
labelled25 labelled25_video labelled25_people
flow_ends flow_bare ddpm_ends ddpm_bare
registers0
alone crops
context demos50 demos200 scratch pretrained finetuned
ROWS
}

# describe NAME SEED: sets what is trained (recipe), on what (from), with which flags (flags), in which worlds it acts
# (world), and the row that it is compared with on the same starts (rival).
describe() {
    local base=("${robot[@]}" "${film[@]}" "${eye[@]}")
    recipe=uwm from=$data/training flags=("${base[@]}" --seed "$2") world=metaworld/$tasks rival=uwm
    case $1 in
    uwm) rival= ;;
    diffusion_policy) recipe=diffusion_policy flags=("${robot[@]}" "${eye[@]}" --seed "$2") ;;
    pad) recipe=pad flags=("${robot[@]}" "${film[@]}" --seed "$2") ;;
    gr1) recipe=gr1 ;;
    shared) flags+=(--times shared) ;;
    current) flags=("${robot[@]}" "${still[@]}" "${eye[@]}" --target current --seed "$2") ;;
    labelled25) from=$few ;;
    labelled25_video)
        from=$few
        flags+=(--also "$data/training?episodes=100-399&hide=action,observation.state" --also-share 0.5)
        rival=labelled25
        ;;
    labelled25_people)
        from=$few
        flags+=(--also "$out/people?rename=observation.images.main:$camera" --also-share 0.5)
        rival=labelled25
        ;;
    flow_ends) flags+=(--asked 0) ;;
    flow_bare) flags+=(--asked 0 --ends 0) rival=flow_ends ;;
    ddpm_ends) flags+=(--asked 0 --path ddpm) rival=flow_ends ;;
    ddpm_bare) flags+=(--asked 0 --path ddpm --ends 0) rival=ddpm_ends ;;
    registers0) flags+=(--registers 0) ;;
    alone) flags+=(--alone 0.3) ;;
    crops) flags+=(--looks 8) ;; # what can be encoded ahead and kept; the others' crops are free
    context) flags=("${robot[@]}" "${film[@]}" --history 1 --given context --seed "$2") ;;
    demos50) from="$data/training?episodes=0-49" ;;
    demos200) from="$data/training?episodes=0-199" ;;
    scratch) from=$new world=metaworld/drawer-open ;;
    pretrained) from=$old ;;
    finetuned) recipe=$out/pretrained-$2 from=$new flags=(--seed "$2") world=metaworld/drawer-open rival=scratch ;;
    *)
        echo "unknown row $1; possible: $(names | tr '\n' ' ')" >&2
        return 2
        ;;
    esac
}

# learn RUN [flags]: train until the steps are done, two processes of one thread each.
learn() {
    local run=$1
    mkdir -p "$run"
    # The pictures are decoded once for all rows.
    [ -e "$run/cache" ] || ln -sn ../cache "$run/cache"
    "$bin/python" -m torch.distributed.run --standalone --nproc-per-node "${PROCESSES:-2}" -m polyclock.cli train \
        "$recipe" --data "$from" --out "$run" --hold-out none --batch-size 32 --lr 1e-3 --warmup 200 \
        --weight-decay 0.05 --ema 0.999 --validate-every 0 --checkpoint-every 250 --log-every 25 --workers 1 \
        --device "$device" "${flags[@]}" "${@:2}"
}

# roll RUN NAME KIND [flags]: every published start of each task; what is committed is what a whole rollout wrote.
roll() {
    local run=$1 name=$2 kind=$3
    if [ -f "$results/uwm-$name.$kind.json" ]; then return; fi
    "$bin/polyclock" rollout "$run" --checkpoint last --world "$world" --episodes "$episodes" --filmed 1 \
        --workers 2 --out "$run/$kind" "${@:4}"
    cp "$run/$kind/rollout.json" "$results/uwm-$name.$kind.json"
}

# ask RUN NAME [flags]: every question about episodes from the published starts, probes, and what other actions would do.
ask() {
    if [ -f "$results/uwm-$2.json" ]; then return; fi
    "$bin/polyclock" evaluate "$1" --checkpoint last --data "$data/held_out" --training "$data/training" \
        --windows "${WINDOWS:-100}" --world "metaworld/drawer-open,metaworld/window-open" --out "$results/uwm-$2.json" "${@:3}"
}

row() {
    local name=$1 seed=$2 run=$out/$1-$2 sampled=(--steps "$solver_steps") against=()
    if [ "$name" = finetuned ]; then row pretrained "$seed"; fi
    if [ "$name" = labelled25_people ]; then people; fi
    describe "$name" "$seed"
    if [ ! -f "$results/uwm-$name-$seed.ledger.json" ]; then
        learn "$run" --steps "$steps"
        python3 tools/ledger.py "$run" "$results/uwm-$name-$seed.ledger.json" "runs/uwm.sh row $name $seed"
    fi
    if [ "$name" = pretrained ]; then return; fi
    if [ "$name" = gr1 ]; then sampled=(); fi
    if [ -n "$rival" ] && [ -f "$out/$rival-$seed/rollout/ledger.jsonl" ]; then
        against=(--against "$out/$rival-$seed/rollout/ledger.jsonl")
    fi
    if [ "$name" = alone ]; then sampled+=(--query "$bare"); fi
    roll "$run" "$name-$seed" rollout "${sampled[@]}" "${against[@]}"
    if [ "$seed" != 0 ]; then return; fi
    case $name in
    uwm | diffusion_policy | pad | gr1 | shared | ddpm_bare) ask "$run" "$name-$seed" "${sampled[@]}" ;;
    esac
    # Only where actions are known apart from the video can they be read off one.
    if [ "$name" = uwm ]; then
        roll "$run" "$name-$seed" tracking --track expert "${sampled[@]}"
        roll "$run" "$name-$seed" goal --track goal "${sampled[@]}"
    fi
}

# Steps and solvers against success, and the question without tokens for the video, asked of a row that never met it.
walks() {
    local episodes=20 world=metaworld/$tasks count solver
    for count in 1 2 3 10; do roll "$out/uwm-0" uwm-0 "euler-$count" --steps "$count"; done
    for count in 2 5 10; do roll "$out/ddpm_ends-0" ddpm_ends-0 "euler-$count" --steps "$count"; done
    for solver in dpm++ unipc; do
        for count in 2 5 10; do
            roll "$out/ddpm_ends-0" ddpm_ends-0 "$solver-$count" --solver "$solver" --steps "$count"
        done
        roll "$out/uwm-0" uwm-0 "$solver-3" --solver "$solver" --steps 3
    done
    roll "$out/uwm-0" uwm-0 bare --steps "$solver_steps" --query "$bare" --against "$out/uwm-0/rollout/ledger.jsonl"
}

# The goal is what the expert sees WITHIN steps on, from the same start.
plan() {
    local episodes=20 world=metaworld/$tasks
    roll "$out/uwm-0" uwm-0 planning --steps "$solver_steps" --plan 8 --goal expert --within "$within" \
        --against "$out/uwm-0/rollout/ledger.jsonl"
}

# Other looks of the world from the same starts, beside what the same row did without.
varied() {
    local episodes=20 world=metaworld/$tasks name looks sampled
    for name in uwm diffusion_policy pad gr1; do
        sampled=(--steps "$solver_steps")
        if [ "$name" = gr1 ]; then sampled=(); fi
        for looks in light background clutter; do
            roll "$out/$name-0" "$name-0" "$looks" --variation "$looks" \
                --against "$out/$name-0/rollout/ledger.jsonl" "${sampled[@]}"
        done
    done
}

people() { "$bin/polyclock" collect people --clips "${CLIPS:-200}" --out "$out/people" --workers 2; }

everything() {
    local name
    for name in uwm diffusion_policy pad gr1; do
        row "$name" 0
        row "$name" 1
    done
    for name in $(names | tail -n +2); do row "$name" 0; done
    walks
    plan
    varied
    "$bin/python" tools/results.py
}

# How fast each system trains and acts: the seconds of a processor that 30 steps take, and one episode of each task.
speed() {
    local name count sampled TIMEFORMAT='%U %S'
    for name in uwm diffusion_policy pad gr1 context; do
        if [ -f "$out/speed-$name-35/rollout/rollout.json" ]; then continue; fi
        describe "$name" 0
        from="$data/training?episodes=0-9" sampled=(--steps "$solver_steps")
        if [ "$name" = gr1 ]; then sampled=(); fi
        for count in 5 35; do
            rm -rf "$out/speed-$name-$count"
            { time learn "$out/speed-$name-$count" --steps "$count" --log-every 5 2>&1; } 2>"$out/speed-$name-$count.times"
        done
        "$bin/polyclock" rollout "$out/speed-$name-35" --checkpoint last --world "metaworld/$tasks" --episodes 1 \
            --filmed 0 --workers 2 --out "$out/speed-$name-35/rollout" "${sampled[@]}"
    done
    "$bin/python" tools/results_uwm.py "$out" "$results/uwm-speed.json"
}

case ${1:-help} in
row | walks | plan | varied | all | speed) mkdir -p "$out/cache" "$results" ;;
esac
case ${1:-help} in
names) names ;;
row) row "$2" "$3" ;;
walks) walks ;;
plan) plan ;;
varied) varied ;;
all) everything ;;
speed) speed ;;
*) sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//' ;;
esac
