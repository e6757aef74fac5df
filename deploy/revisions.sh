#!/bin/sh
# Which revision of each service serves now, one a line, so that a release can be taken back:
#
#   deploy/revisions.sh NAME REGION FILE
set -eu

gcloud run services list --region "$2" --filter "metadata.labels.app=$1" \
  --format 'csv[no-heading](metadata.name,status.traffic[0].revisionName)' > "$3"
cat "$3"
