#!/bin/sh
# Terraform in a folder, with its state in a bucket, the same for a person and for a build:
#
#   deploy/terraform.sh terraform/examples/minimal PROJECT-terraform plan
set -eu

folder=$1 bucket=$2
shift 2
# Instead of whatever the folder says about its state.
cat > "$folder/backend_override.tf" <<'BACKEND'
terraform {
  backend "gcs" {
    prefix = "promptreel"
  }
}
BACKEND
terraform -chdir="$folder" init -input=false -backend-config="bucket=$bucket" > /dev/null
exec terraform -chdir="$folder" "$@"
