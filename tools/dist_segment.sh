#!/usr/bin/env bash
# Segment scenes in several processes:
#   dist_segment.sh CONFIG CHECKPOINT GPUS IMAGES --out MAP [options of segment.py]
# Without a GPU, GPUS is the number of CPU processes. Several machines: set
# NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS IMAGES --out MAP [options]" >&2
    exit 2
fi
here="$(cd "$(dirname "$0")" && pwd)"

PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" \
torchrun \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$3" \
    "$here/segment.py" "$1" "$2" "${@:4}" --launcher pytorch
