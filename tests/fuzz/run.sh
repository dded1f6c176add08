#!/bin/sh
# Runs one fuzz target for a short while from its seeds. What it finds beyond them goes to a folder
# beside the program, so that a longer run by hand goes on from there:
#
#   tests/fuzz/run.sh build-fuzz/tests/fuzz/fuzz_NAME tests/fuzz/seeds/NAME [SECONDS]
set -eu
target=$1
seeds=$2
seconds=${3:-15}

corpus=$target.corpus
mkdir -p "$corpus"
if [ -d "$seeds" ]; then
    set -- "$corpus" "$seeds"
else
    set -- "$corpus"
fi
exec "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="$target." "$@"
