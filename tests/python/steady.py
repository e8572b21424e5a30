"""Asks one URL all the time until a file is there, and tells how many answers were good, and when one was not.

usage: steady.py URL STOP_FILE
"""

import os
import sys
import time
import urllib.request

url, stop = sys.argv[1:]
good, bad = 0, []
while not os.path.exists(stop):
    began = time.time()
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
            good += 1
    except Exception as error:  # noqa: BLE001: any failure counts
        bad.append(f"{began:.3f} +{time.time() - began:.3f}s: {error}")
    time.sleep(0.02)
print(good)
for line in bad:
    print(line)
