#!/bin/sh
# A command, or nothing: deploy/when.sh true COMMAND …
set -eu

[ "$1" = true ] || exit 0
shift
exec "$@"
