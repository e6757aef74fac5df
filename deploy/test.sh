#!/bin/sh
# What must pass before anything is built, on an image with Google's emulators.
set -eu

apt-get update --quiet=2
apt-get install --yes --quiet=2 --no-install-recommends make python3-venv > /dev/null
exec .ci/run
