#!/bin/sh
# What Terraform is to run, by digest: deploy/name_images.sh FOLDER GPU_WORKER
set -eu

cat > "$1/images.auto.tfvars.json" <<JSON
{
  "images": {
    "api": "$(cat /workspace/api.image)",
    "gpu_worker": "$(cat "/workspace/$2.image")",
    "remote_worker": "$(cat /workspace/remote-worker.image)"
  }
}
JSON
cat "$1/images.auto.tfvars.json"
