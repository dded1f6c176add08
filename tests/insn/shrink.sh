#!/bin/sh
# Shrinking, with a difference that is not there: insn_test falsifies the outcome where ADC runs with
# an odd rcx. What is printed must be one instruction and rcx = 1, out of a sequence of up to eight
# with random inputs. Called by meson.
#
#     shrink.sh INSN_TEST
set -eu

if out=$("$1" --engine native --form none --sequences 300 --show 1 --inject adc); then
    echo "the difference was not found"
    exit 1
fi
printf '%s\n' "$out" | awk '
    /^differs/ { shown++; code = 0 }
    /^    [0-9a-f]+  [0-9a-f][0-9a-f] / { code++; if (!/ adc /) bad = "another instruction is left: " $0 }
    /^    rax / && $0 != "    rax 0 rcx 1 rdx 0 rbx 0 rsp 0 rbp 0 rsi 0 rdi 0" {
        bad = "inputs are left: " $0
    }
    /repeat:/ { repeat++; if (code != 1) bad = code " instructions are left" }
    END {
        if (!shown || repeat != shown)
            bad = "nothing was shown"
        if (bad) {
            print bad
            exit 1
        }
        print shown " differences shrunk"
    }'
