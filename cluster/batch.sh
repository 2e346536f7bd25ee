#!/usr/bin/env bash
# A launcher of batch jobs for Slurm: INFOSEG_LAUNCHER=cluster/batch.sh (docs/cluster.md).
#
# Submits its arguments as a job and waits for it, as `srun` would. Other than one of srun's, the
# job is queued again when it is pre-empted or its node fails, and goes on from its checkpoint.
# INFOSEG_SBATCH: further options of sbatch, "--gres=gpu:1 --time=4:00:00" say.
set -euo pipefail

if [ "${1:-}" = --inside ]; then
  shift
  exec "$@"
fi

mkdir -p build/logs/jobs
log=$(mktemp build/logs/jobs/XXXXXX.log)
name=infoseg-$(basename "$log" .log)
# Whoever stops the pipeline stops its jobs.
trap 'scancel --quiet --name="$name"; exit 143' INT TERM HUP
# shellcheck disable=SC2086  # several options are several words
sbatch --wait --quiet --requeue --open-mode=append --job-name="$name" --output="$log" \
  ${INFOSEG_SBATCH:-} "$0" --inside "$@" &
status=0
wait $! || status=$?
# Into the stage's own log, where a failure is looked for.
cat "$log"
exit $status
