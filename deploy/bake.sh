#!/bin/sh
# Has the job bake a snapshot, on an L4, and brings it to /workspace/snapshot. It is kept by the image it is made
# with: the same image bakes once.
#
#   deploy/bake.sh JOB REGION MODEL BUCKET [OPTIONS OF THE BAKING, with commas between]
set -eu

job=$1 region=$2 model=$3 bucket=$4 options=${5:-}
image=$(cat /workspace/bake.image)
kept="$model-${image##*:}"
arguments="/models/$model,/snapshots/$kept,--model,$model${options:+,$options}"
if ! gcloud storage ls "gs://$bucket/$kept/manifest.json" > /dev/null 2>&1; then
  gcloud run jobs update "$job" --region "$region" --image "$image" --args "$arguments"
  gcloud run jobs execute "$job" --region "$region" --wait
fi
mkdir -p /workspace/snapshot
gcloud storage cp --recursive "gs://$bucket/$kept/*" /workspace/snapshot/
