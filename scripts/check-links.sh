#!/bin/sh
# Every relative link in the documentation leads to a file that is there.
set -eu
cd "$(dirname "$0")/.."
broken=0
for page in $(git ls-files '*.md'); do
    folder=$(dirname "$page")
    for link in $(grep -oE '\]\([^)# ]+' "$page" | sed 's/^](//' | grep -vE '^[a-z]+:' || true); do
        if [ ! -e "$folder/$link" ]; then
            echo "$page: the link to $link leads nowhere" >&2
            broken=1
        fi
    done
done
exit $broken
