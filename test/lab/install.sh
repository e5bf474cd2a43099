#!/bin/bash
# install.sh: installs Berth in the running test cluster, as a user would in his.
set -euo pipefail
cd "$(dirname "$0")/../.."
cluster() { "${BERTH_CLUSTER:-bin/cluster}" "$@"; }
kubectl() { cluster exec -- kubectl "$@"; }

echo "Installing Berth"
loaded=$(cluster image load dist/berth.tar 2>&1) || { echo "$loaded"; exit 1; }
kubectl apply --server-side -k manifests/crds >/dev/null
kubectl wait --for=condition=Established crd -l app.kubernetes.io/part-of=berth --timeout=30s >/dev/null
before=$(kubectl -n berth-system get deployment,daemonset -o name --ignore-not-found)
kubectl apply --server-side -k manifests/interception >/dev/null
kubectl apply --server-side -k manifests/base >/dev/null
# The image has the same name as before, so whatever ran already must be told.
[ -z "$before" ] || kubectl -n berth-system rollout restart $before >/dev/null
for part in deployment/berth-controller deployment/berth-proxy daemonset/berth-node; do
  kubectl -n berth-system rollout status "$part" --timeout=90s
done
