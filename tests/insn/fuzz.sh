#!/bin/sh
# A long random comparison of the software engine with the CPU (`make fuzz-insn`).
#
#     fuzz.sh BUILD [--seconds N] [--seed N] ...     default: ten minutes from a random seed
#
# Failures go to the terminal and to BUILD/fuzz-insn.log, each with the line that repeats it.
set -eu

build=$1
shift
ninja -C "$build" --quiet tests/insn/insn_test
seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
log=$build/fuzz-insn.log
echo "seed $seed, log in $log"
# What stands later wins, so that the caller's options do.
status=0
"$build/tests/insn/insn_test" --engine dbt --seed "$seed" --seconds 600 --instances 32 \
    --sequences 100000 --show 3 "$@" >"$log" || status=$?
cat "$log"
exit "$status"
