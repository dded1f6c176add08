#!/bin/sh
# A long random comparison of the software engine with the CPU (`make fuzz-insn`): seed after seed
# until it is stopped (Ctrl-C, SIGTERM).
#
#     fuzz.sh BUILD [--seconds N] [--seed N] ...     options: see the head of main.c
#
# Seeds and failures, each shrunk and with the line that repeats it, go to the terminal and to
# BUILD/fuzz-insn.log. The status is 1 if something differed.
set -eu

build=$1
shift
ninja -C "$build" --quiet tests/insn/insn_test
seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
log=$build/fuzz-insn.log
echo "log in $log"
: >"$log"
tail -f "$log" &
tail=$!
# The test program ends by itself at a signal; this script waits for its verdict.
trap : INT TERM
# What stands later wins, so that the caller's options do.
"$build/tests/insn/insn_test" --engine dbt --seed "$seed" --forever --instances 8 --show 3 "$@" \
    >"$log" &
test=$!
status=0
wait "$test" || status=$?
if [ "$status" -gt 128 ]; then # the wait was interrupted, not the program
    status=0
    kill "$test" 2>/dev/null || :
    wait "$test" || status=$?
fi
sleep 1
kill "$tail"
exit "$status"
