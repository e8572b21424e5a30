#!/usr/bin/env bash
# Fuzzes every decoder: fuzz/run.sh [RUNS [TARGET …]]. The target triple is named so that build scripts stay uninstrumented.
set -euo pipefail
cd "$(dirname "$0")"
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_WRAPPER="$PWD/rustc.sh" cargo build --release --locked --target "$host"
exec "${CARGO_TARGET_DIR:-target}/$host/release/regrow-fuzz" "$@"
