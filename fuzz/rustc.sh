#!/bin/sh
# Cargo calls this in place of rustc: the crates under test get one 8-bit counter for each edge, as libFuzzer has them.
rustc="$1"; shift
case " $* " in
  *" --crate-name regrow_gossip "* | *" --crate-name regrow_fuzz_rpc "* | *" --crate-name regrow_fuzz_redis "*)
    exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters ;;
  *) exec "$rustc" "$@" ;;
esac
