#!/usr/bin/env bash
# A pipeline: evaluate a checkpoint, keep the figures, and stop the build if depth got worse.
#   examples/evaluate.sh STORE CHECKPOINT [MAX_ABS_REL]
set -euo pipefail

store=$1 checkpoint=$2 limit=${3:-0.5}
report=$(mktemp)
trap 'rm -f "$report"' EXIT

status=0
unienc eval-depth "$store" --checkpoint "$checkpoint" --json --quiet \
  --fail-over "abs_rel=$limit" > "$report" || status=$?

case $status in
  0) echo "ok: abs_rel is at most $limit" ;;
  7) echo "regression: abs_rel is over $limit" ;;
  *) cat "$report"; exit "$status" ;;
esac
python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
for name, value in report["metrics"].items():
    print(f"{name:10}", "-" if value is None else f"{value:.4f}")
' "$report"
exit "$status"
