#!/bin/sh
# Load a generated data set with the official nuscenes-devkit: list its scenes, project its boxes and LiDAR points into its
# images (two pictures), compare boxes with LiDAR points, velocities and occupancy labels, read its CAN bus messages.
# The devkit needs numpy < 2, so it gets an environment of its own.
# usage: tools/check_world_with_devkit.sh DATASET [OVERLAY.png] [ENVIRONMENT]
set -eu
dataset=${1:?usage: $0 DATASET [OVERLAY.png] [ENVIRONMENT]}
overlay=${2:-out/world_devkit.png}
environment=${3:-out/devkit}
if [ ! -x "$environment/bin/python" ]; then
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install -q nuscenes-devkit==1.2.0
fi
mkdir -p "$(dirname "$overlay")"
exec "$environment/bin/python" "$(dirname "$0")/check_world_with_devkit.py" "$dataset" "$overlay"
