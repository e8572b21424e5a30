"""The store's engine alone, without a door: `crates/store/examples/engine.rs`."""

import subprocess

from cluster import EXAMPLES

TITLE = "The store's engine alone, durability on"


def section(_quick):
    """The section of RESULTS.md."""
    done = subprocess.run([EXAMPLES / "engine"], capture_output=True, check=True, text=True)
    return f"\n\n```text\n{done.stdout.strip()}\n```\n"
