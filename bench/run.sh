#!/bin/sh
# Measures everything and rewrites bench/RESULTS.md: over an hour on an idle machine, QUICK=1 about ten minutes.
# Usage: bench/run.sh [SECTION …]     needs root for the network namespaces of `node_death` and `gossip`
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked -p regrow
cargo build --release --locked -p regrow-control -p regrow-store --examples
exec python3 -B bench/bench.py "$@"
