#!/bin/sh
# After a release that did not pass, each service is served by the revision that served before. Ends with 1 then.
#
#   deploy/roll_back.sh REGION REVISIONS PASSED
set -eu

if [ -e "$3" ]; then
  echo "The release has passed."
  exit 0
fi
echo "The release has not passed: back to what served before."
# A service of the first release has nothing to go back to, and one that was not touched goes nowhere.
while IFS=, read -r service revision; do
  [ -n "$revision" ] || continue
  gcloud run services update-traffic "$service" --region "$1" --to-revisions "$revision=100" < /dev/null \
    || echo "$service could not be taken back to $revision." >&2
done < "$2"
exit 1
