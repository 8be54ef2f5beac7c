#!/usr/bin/env bash
# The whole round in at most 8 minutes on two cores, nothing downloaded: an expert shows a task that the shipped network
# has never seen, the network learns it, is asked every question, acts, and all of it stands on one page.
#
#   make demo                    where there is no checkpoints/tabletop, a new network is trained instead
#   make demo TASK=door-close OUT=/tmp/demo     a folder of its own: what an earlier demo left in it is removed
#
# Where no simulator can draw: real robot episodes ($POLYCLOCK_DATA, default ../shared/data), without acting; where these
# are absent too: the world whose answers are known.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Two threads, which sleep while they wait where cores are shared after all.
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE MUJOCO_GL=${MUJOCO_GL:-egl}
out=${OUT:-demo}
mark=$out/.demo
run=$out/run
start=${START:-checkpoints/tabletop}
task=${TASK:-faucet-close}

# run COMMAND...: say it, then do it.
run() {
  local word line=
  for word in "$@"; do
    if [[ $word =~ [^A-Za-z0-9_./=,:-] ]]; then word="\"$word\""; fi
    line+=" $word"
  done
  printf '\n$%s\n' "$line"
  "$@"
}

# Whether the simulator is installed and draws: one picture says it.
draws() { python -c "$PICTURE"; } >/dev/null 2>&1
PICTURE='
from polyclock.envs import open_env, starts
env = open_env("metaworld/reach", size=16)
assert env.reset(starts("reach", count=1)[0])["observation.images.corner2"].any()
env.close()
'

tabletop() {
  local world=metaworld/$task
  run polyclock collect "$world" --episodes 14 --cameras corner2 --flow-steps 8 --noise 0.15 --out "$out/data"
  local acts=(--world "$world" --episodes 10 --steps 1)
  local learns=(--data "$out/data" --out "$run" --hold-out 12-13 --batch-size 16 --steps 5000 --warmup 20
    --schedule constant --ema 0.99 --validate-every 60 --checkpoint-every 60 --log-every 20)
  local beside=()
  if [ -f "$start/config.json" ]; then
    printf '\n# What the shipped network does in %s, which it has never seen.\n' "$task"
    run polyclock rollout "$start" "${acts[@]}" --out "$out/before"
    beside=(--beside "before learning=$out/before")
    printf '\n# It goes on with the new episodes. The time limit, not the number of steps, ends this.\n'
    run polyclock train "$start" "${learns[@]}" --lr 4e-4 --time-limit 4
  else
    printf '\ndemo: %s is not there, so a new network is trained; minutes are too few for it to act well\n' "$start"
    run polyclock train tabletop "${learns[@]}" --lr 1e-3 --time-limit 3.5
  fi
  run polyclock evaluate "$run" --checkpoint last --data "$out/data" --windows 12 --probe-windows 6 --steps 1
  run polyclock rollout "$run" --checkpoint last "${acts[@]}" --out "$run/rollout"
  run polyclock report "$run" --data "$out/data" --name "after learning" "${beside[@]}" --count 2 --seconds 1 --steps 1 --out "$out/report.html"
}

recorded() {
  run polyclock data info "$1"
  run polyclock train uwm --data "$1" --out "$run" --image 64 --steps 2000 --time-limit 4 \
    --batch-size 16 --lr 5e-4 --warmup 50 --schedule constant --ema 0.99 \
    --validate-every 100 --checkpoint-every 200 --log-every 25
  run polyclock info "$run"
  run polyclock evaluate "$run" --data "$1" --windows 24 --probes none
  run polyclock report "$run" --data "$1" --count 2 --out "$out/report.html"
}

data=${POLYCLOCK_DATA:-../shared/data}/g1_pick_bottle
if ! command -v polyclock >/dev/null; then
  echo "demo: there is no command polyclock here; make demo installs it and runs this" >&2
  exit 2
fi
if [ -e "$out" ] && [ ! -f "$mark" ]; then
  echo "demo: $out is there and no demo made it, so it is left alone; name another folder: make demo OUT=DIR" >&2
  exit 2
fi
rm -rf "$out"
mkdir -p "$out"
touch "$mark"
if draws; then
  tabletop
elif [ -f "$data/meta/info.json" ]; then
  echo "demo: no simulator draws here; recorded robot episodes instead"
  recorded "$data"
else
  echo "demo: no simulator draws here and no robot episodes are at $data; a world whose answers are known instead"
  run python examples/00_known_world.py --steps 1000
  exit
fi

printf '\ndemo: %d s; the report is %s: open it in a browser\n' "$SECONDS" "$out/report.html"
