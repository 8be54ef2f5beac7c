#!/usr/bin/env bash
# One network, five questions, on a robot episode that it has not seen: from a data set on disk to JSON and a page.
#
#   runs/robot.sh DATASET NAME [more flags of `polyclock train`]
#
#   runs/robot.sh ../shared/data/g1_pick_bottle g1
#   runs/robot.sh ../shared/data/gr00t_dreams_gr1_sim/demo_data/robot_sim.PickNPlace gr1
#
# The recipe is `uwm` at size tiny and 64 px with pixel patches; the last episode is held out. It trains at most 40
# minutes on 2 cores, writes runs/out/NAME (the run and its page) and runs/results/NAME.json (a row of docs/results.md,
# which `python tools/results.py` then writes anew).
set -euo pipefail
mkdir -p runs/out runs/results
data=$1 name=$2
shift 2
polyclock=${POLYCLOCK:-.venv/bin/polyclock}

"$polyclock" train uwm --data "$data" --out "runs/out/$name" \
    --steps 2000 --batch-size 24 --lr 1e-3 --warmup 100 --weight-decay 0.05 --ema 0.995 \
    --validate-every 250 --checkpoint-every 250 --log-every 25 --workers 1 --time-limit 40 "$@"
python3 tools/ledger.py "runs/out/$name" "runs/results/$name.ledger.json" "runs/robot.sh \$DATA $name $*"
# The last weights, not those with the lowest validation loss: these were chosen on the very episode that is asked about.
"$polyclock" evaluate "runs/out/$name" --data "$data" --checkpoint last --stride 3 --out "runs/results/$name.json"
"$polyclock" report "runs/out/$name" --evaluation "runs/results/$name.json" --data "$data" --out "runs/out/$name/report.html"
