#!/bin/sh
# Measures everything and rewrites bench/RESULTS.md. About five minutes on an idle machine.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked -p regrow
cargo build --release --locked -p regrow-control -p regrow-store --examples
exec python3 bench/bench.py "$@"
