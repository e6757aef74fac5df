#!/bin/sh
# Lets the newest revision of each service serve, also after a release was taken back: deploy/serve_newest.sh NAME REGION
set -eu

for service in $(gcloud run services list --region "$2" --filter "metadata.labels.app=$1" --format 'value(metadata.name)'); do
  gcloud run services update-traffic "$service" --region "$2" --to-latest
done
