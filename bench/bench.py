"""Measures Regrow, section by section, and writes bench/RESULTS.md. See bench/README.md.

`bench.py [SECTION …]`: those only; the others keep what they have.
"""

import importlib
import os
import platform
import re
import sys
import time
from pathlib import Path

from cluster import REGROW, ROOT
from figures import version

RESULTS = ROOT / "bench/RESULTS.md"
# Modules beside this one, each with a TITLE and `section(quick)`, in the order of the page.
SECTIONS = ["loop", "node_death", "engine", "etcd", "gossip", "jobs", "redis_proxy", "redis_migrate"]
SMALL = " **QUICK=1: too small to be believed.**"
HEAD = """# Results

Written by `make bench` ([how](README.md)).
"""


def machine():
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), platform.machine())
    return (f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({cpu}), Linux {platform.release()}, "
            f"Regrow {version(REGROW, '--version').split()[-1]}.")


def main():
    there = [name for name in SECTIONS if (ROOT / f"bench/{name}.py").exists()]
    asked = sys.argv[1:] or there
    if unknown := sorted(set(asked) - set(there)):
        raise SystemExit(f"bench.py: no section {', '.join(unknown)}: there are {', '.join(there)}")
    quick = bool(os.environ.get("QUICK"))
    text = RESULTS.read_text() if RESULTS.exists() else ""
    written = dict(re.findall(r"^## (.*)\n\n((?:(?!## ).*\n)*)", text, re.MULTILINE))
    modules = [importlib.import_module(name) for name in there]
    for module in modules:
        if module.__name__ not in asked:
            continue
        print(f"-- {module.__name__}", flush=True)
        start = time.monotonic()
        body = module.section(quick)
        print(f"-- {module.__name__}: {time.monotonic() - start:.0f} s", flush=True)
        written[module.TITLE] = f"{machine()}{SMALL if quick else ''} {body}"
        # At once: a section that fails later takes nothing with it.
        sections = [f"## {one.TITLE}\n\n{written[one.TITLE].strip()}\n" for one in modules if one.TITLE in written]
        RESULTS.write_text("\n".join([HEAD, *sections]))


if __name__ == "__main__":
    main()
