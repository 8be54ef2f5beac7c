#!/usr/bin/env bash
# A short form of the main job on real robot episodes, at most 8 minutes on two cores: train, measure, report, ask.
# Where the data are absent ($POLYCLOCK_DATA, default ../shared/data): the world whose answers are known.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Nothing else runs meanwhile: two threads, which sleep while they wait where cores are shared after all.
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE
data=${POLYCLOCK_DATA:-../shared/data}/g1_pick_bottle
out=demo
run=$out/run

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

if [ ! -f "$data/meta/info.json" ]; then
  echo "demo: no robot episodes at $data; a world whose answers are known instead"
  run python examples/00_known_world.py --steps 1000
  exit
fi

rm -rf "$out"
run polyclock data info "$data"
# A constant rate: the time limit, not the number of steps, ends this training.
run polyclock train uwm --data "$data" --out "$run" --image 64 --steps 2000 --time-limit 4 \
  --batch-size 16 --lr 5e-4 --warmup 50 --schedule constant --ema 0.99 \
  --validate-every 100 --checkpoint-every 200 --log-every 25
run polyclock info "$run"
run polyclock evaluate "$run" --data "$data" --stride 12
run polyclock report "$run" --data "$data" --count 2 --out "$out/report.html"
run polyclock sample "$run" "video | action" --data "$data" --at 3 --out "$out/forward"
run polyclock sample "$run" "action |" --data "$data" --at 3 --count 4 --out "$out/policy"

echo
echo "demo: the report is $out/report.html; a predicted video is $out/forward/video.mp4"
