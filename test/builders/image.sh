#!/bin/bash
# image.sh TAR: makes an image of the tools that build images in Pods, for the test cluster: Debian's buildah and
# skopeo, and BuildKit. Packages' own scripts are not run: the image trusts nobody, and knows no registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
tar=$1 programs=$PWD/bin/builders
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "Making the image of builders: Debian's buildah and skopeo"
without=(/usr/share/\* /usr/lib/cni/\* /usr/lib/\*/perl\* /usr/lib/\*/libperl\*)
mmdebstrap --quiet --variant=extract --include=buildah,skopeo,runc,dash,coreutils \
  "${without[@]/#/--dpkgopt=path-exclude=}" --extract-hook='mkdir --parents --mode 1777 "$1/var/tmp"' bookworm "$work/debian.tar"

echo "Making the image of builders: BuildKit, some 1 to 2 minutes at first"
CGO_ENABLED=0 GOBIN=$programs go -C test/builders install -trimpath -ldflags '-s -w' tool
go -C tools run ./image -base "$work/debian.tar" -bin "$programs/buildkitd" -bin "$programs/buildctl" \
  -user 0:0 -ref registry.test/builders:1 -tar "$work/builders.tar" >/dev/null
mv "$work/builders.tar" "$tar"
