#!/bin/bash
# with-cluster.sh PROGRAM...: runs a program in a real cluster with Berth installed.
#
# A cluster that is up already is used, and left up. Otherwise one is brought up for the program, and taken down
# after it, also after a failure or Ctrl-C; KEEP=1 leaves it up to be looked at.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec 2>&1 # all to standard output: gotestsum takes another stream for errors
export BERTH_CLUSTER=$PWD/bin/cluster BERTH_CLUSTER_STATE=${BERTH_CLUSTER_STATE:-$PWD/.cluster}

if ! "$BERTH_CLUSTER" status >/dev/null 2>&1; then
  down() {
    if [ "${KEEP:-}" ]; then echo "The cluster is still up: make cluster-exec CMD='kubectl get pods -A'; make cluster-down"; return; fi
    "$BERTH_CLUSTER" down
  }
  trap down EXIT
  "$BERTH_CLUSTER" up
fi
test/lab/install.sh
"$BERTH_CLUSTER" exec -- "$@"
