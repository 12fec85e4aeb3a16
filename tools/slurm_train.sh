#!/usr/bin/env bash
# Train on a Slurm cluster:
#   slurm_train.sh PARTITION JOB_NAME CONFIG [options of train.py]
# Resources: GPUS (4), GPUS_PER_NODE (4), CPUS_PER_TASK (5), SRUN_ARGS.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [options of train.py]" >&2
    exit 2
fi
here="$(cd "$(dirname "$0")" && pwd)"

# SRUN_ARGS holds several words.
# shellcheck disable=SC2086
PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" \
srun --partition "$1" \
    --job-name="$2" \
    --gres="gpu:${GPUS_PER_NODE:-4}" \
    --ntasks="${GPUS:-4}" \
    --ntasks-per-node="${GPUS_PER_NODE:-4}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$here/train.py" "$3" --launcher slurm "${@:4}"
