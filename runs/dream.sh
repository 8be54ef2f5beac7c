#!/usr/bin/env bash
# Video with features in its channels, beside the video alone, single features, no annealing, and other ways to use them;
# the union: the rows of the tables of docs/results.md, section "DreamWorld", in both worlds.
#
#   runs/dream.sh names                   the rows there are, the most important first
#   runs/dream.sh row WORLD NAME SEED     one row: train, answer every question, measure the predicted world
#   runs/dream.sh guides WORLD SEED       row all: guidance by all sources, with each of them removed, and none
#   runs/dream.sh act SEED                row union acts in the tabletop world, steered by what it predicts, and not
#   runs/dream.sh all                     all of them
#   runs/dream.sh speed WORLD [NAME..]    how many steps a second rows take here
#
# WORLD is tabletop or people. The tabletop's data are what runs/tabletop.sh collected (TABLETOP), those of people what
# runs/people.sh did (PEOPLE). The same command goes on with what was interrupted, and does not repeat what is done. STEPS,
# WINDOWS, SOLVER, PROCESSES and DEVICE are variables. All rows of a world have the same backbone (Wan, size tiny, 64 px),
# batches, steps and data, but for what their name says. What a run writes lies in runs/out/dream; what is committed is
# runs/results/dream-*.json.
set -euo pipefail
bin=${BIN:-.venv/bin}
out=${OUT:-runs/out/dream}
results=${RESULTS:-runs/results}
steps=${STEPS:-2200} windows=${WINDOWS:-60} solver=${SOLVER:-20} device=${DEVICE:-cpu}
tabletop=${TABLETOP:-runs/out/tabletop} people=${PEOPLE:-runs/out/people}
tasks=drawer-close,drawer-open,window-open,button-press-topdown,handle-press
export OMP_NUM_THREADS=1 MUJOCO_GL=egl

names() {
    cat <<'ROWS'
video all constant
flow geometry semantics
union
dropped videojam videorepa
ROWS
}

# describe WORLD NAME SEED: sets the recipe, what it learns from (from, held) and its flags (flags).
describe() {
    recipe=dreamworld
    case $1 in
    # Half of the clips are given their first picture. Flow leads from one picture to the next: 0.1 s, and 0.2 s of people.
    tabletop)
        from=$tabletop/training held=$tabletop/held_out
        flags=(--cameras observation.images.corner2 --frames 4 --rate 10 --still --reach 0.033)
        ;;
    people)
        from=$people/training held=$people/held_out
        flags=(--cameras observation.images.main --frames 4 --rate 5 --classes 5 --reach 0.066)
        ;;
    *)
        echo "unknown world $1; possible: tabletop people" >&2
        return 2
        ;;
    esac
    flags+=(--first 0.5 --detail --drop-text 0.1 --seed "$3")
    local own=(--annealed "$steps")
    case $2 in
    video) own=(--features "") ;;
    flow | geometry | semantics) own+=(--features "$2") ;;
    all) ;;
    constant) own=(--annealed 0) ;;
    dropped) own+=(--drop 0.15) ;;
    videojam) recipe=videojam own=() ;;
    videorepa) recipe=videorepa own=(--features semantics --hidden 512) ;;
    union)
        recipe=union own=()
        flags=(--cameras observation.images.corner2 --horizon 8 --action-rate 80 --seed "$3")
        if [ "$1" != tabletop ]; then
            echo "row union acts; only the tabletop has actions" >&2
            return 2
        fi
        ;;
    *)
        echo "unknown row $2; possible: $(names | tr '\n' ' ')" >&2
        return 2
        ;;
    esac
    case $recipe in
    videojam) drop_flags --classes --drop-text ;;
    videorepa) drop_flags --classes --drop-text --reach ;;
    esac
    flags+=("${own[@]}")
}

# drop_flags NAME..: take flags away that a recipe does not have, with their values.
drop_flags() {
    local kept=() skip= word
    for word in "${flags[@]}"; do
        if [ -n "$skip" ]; then
            skip=
        elif [[ " $* " == *" $word "* ]]; then
            skip=1
        else
            kept+=("$word")
        fi
    done
    flags=("${kept[@]}")
}

# learn RUN [flags]: train until the steps are done, two processes of one thread each.
learn() {
    local run=$1
    mkdir -p "$run"
    # The pictures and maps are decoded once for all rows of a world.
    mkdir -p "$out/cache-$world"
    [ -e "$run/cache" ] || ln -sn "../cache-$world" "$run/cache"
    "$bin/python" -m torch.distributed.run --standalone --nproc-per-node "${PROCESSES:-2}" -m polyclock.cli train \
        "$recipe" --data "$from" --out "$run" --hold-out none --batch-size 12 --lr 1e-3 --warmup 200 \
        --weight-decay 0.05 --ema 0.999 --validate-every 0 --checkpoint-every 250 --log-every 25 --workers 1 \
        --device "$device" "${flags[@]}" "${@:2}"
}

# ask RUN NAME [flags]: every question about held-out episodes, and whether the predicted world is one.
ask() {
    if [ -f "$results/dream-$2.json" ]; then return; fi
    "$bin/polyclock" evaluate "$1" --checkpoint last --data "$held" --training "$from" --windows "$windows" \
        --steps "$solver" --probes consistency,world --probe-windows "$windows" --device "$device" \
        --out "$results/dream-$2.json" "${@:3}"
}

row() {
    world=$1
    local name=$2 seed=$3 run=$out/$1-$2-$3
    describe "$world" "$name" "$seed"
    if [ ! -f "$results/dream-$world-$name-$seed.ledger.json" ]; then
        learn "$run" --steps "$steps"
        python3 tools/ledger.py "$run" "$results/dream-$world-$name-$seed.ledger.json" "runs/dream.sh row $world $name $seed"
    fi
    ask "$run" "$world-$name-$seed"
}

# guides WORLD SEED: what withholding each source is worth. The network whose sources were dropped in training.
guides() {
    world=$1
    local run=$out/$1-dropped-$2 source
    row "$1" dropped "$2"
    local all=(--guide weight=2,drop=text --guide weight=1,drop=flow --guide weight=1,drop=semantics --guide weight=1,drop=geometry)
    ask "$run" "$world-guided-all-$2" "${all[@]}"
    for source in text flow semantics geometry; do
        local left=() word
        for word in "${all[@]}"; do
            if [[ $word == weight=*drop=* && $word != *drop=$source ]]; then left+=(--guide "$word"); fi
        done
        ask "$run" "$world-guided-without-$source-$2" "${left[@]}"
    done
}

# act SEED: the published starts; the question of the policy, and that of all at once without guidance and with it.
act() {
    row tabletop union "$1"
    local run=$out/tabletop-union-$1 told="camera, state, text"
    local joint="video[1:], depth, flow, semantics, action | video[:1], $told"
    local -A asked=([policy]="action | video[:1], $told" [joint]="$joint" [steered]="$joint")
    for kind in policy joint steered; do
        local more=()
        if [ "$kind" = steered ]; then more=(--guide "weight=${WEIGHT:-1},drop=depth+flow+semantics,scope=action"); fi
        if [ -f "$results/dream-union-$1.$kind.json" ]; then continue; fi
        "$bin/polyclock" rollout "$run" --checkpoint last --world "metaworld/$tasks" --episodes "${EPISODES:-50}" \
            --steps "${ACTING:-5}" --workers 2 --filmed 1 --device "$device" --query "${asked[$kind]}" \
            --out "$run/$kind" "${more[@]}"
        cp "$run/$kind/rollout.json" "$results/dream-union-$1.$kind.json"
    done
}

# speed WORLD NAME..: twenty steps of each row, on a few episodes.
speed() {
    world=$1
    out=$out/speed
    for name in "${@:2}"; do
        describe "$world" "$name" 0
        from="$from?episodes=0-3"
        rm -rf "${out:?}/$world-$name"
        learn "$out/$world-$name" --steps 20 --log-every 10 --warmup 2
        tail -n 1 "$out/$world-$name/log.jsonl"
    done
}

everything() {
    local seed name
    for seed in ${SEEDS:-0}; do
        for name in $(names); do row tabletop "$name" "$seed"; done
        guides tabletop "$seed"
        act "$seed"
        for name in video all constant flow geometry semantics; do row people "$name" "$seed"; done
    done
}

mkdir -p "$out" "$results"
case ${1:-} in
names) names ;;
row) row "$2" "$3" "$4" ;;
guides) guides "$2" "$3" ;;
act) act "$2" ;;
all) everything ;;
speed)
    if [ $# -gt 2 ]; then speed "${@:2}"; else speed "${2:-tabletop}" $(names); fi
    ;;
*)
    sed -n '2,/^set/p' "$0" | sed '$d;s/^# \{0,1\}//'
    exit 2
    ;;
esac
