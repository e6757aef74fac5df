#!/bin/sh
# Builds one image, pushes it, and leaves its name by digest in /workspace/NAME.image:
#
#   deploy/build.sh NAME DOCKERFILE TARGET [MORE OPTIONS …]
set -eu

name=$1 dockerfile=$2 target=$3
shift 3
docker buildx inspect promptreel > /dev/null 2>&1 || docker buildx create --name promptreel \
  --driver docker-container --driver-opt "image=$BUILDKIT" > /dev/null
# Attestations would make a list of images of it, which Artifact Registry does not scan.
docker buildx build --builder promptreel --provenance=false --progress plain \
  --file "$dockerfile" --target "$target" \
  --build-arg "VERSION=$RELEASE" --build-arg "REVISION=$REVISION" \
  --cache-from "type=registry,ref=$REGISTRY/cache:$name" \
  --cache-to "type=registry,ref=$REGISTRY/cache:$name,mode=max,image-manifest=true,oci-mediatypes=true" \
  --metadata-file "/workspace/$name.json" --tag "$REGISTRY/$name:$RELEASE" --push "$@" .
digest=$(sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "/workspace/$name.json")
test -n "$digest"
echo "$REGISTRY/$name@$digest" | tee "/workspace/$name.image"
