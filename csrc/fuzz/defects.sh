# SPDX-License-Identifier: MIT
# Puts defects back one at a time, and tells how long fuzz_mux takes to find each, by libFuzzer and by chance: sh fuzz/defects.sh BUILD SECONDS
# 0 seconds: only whether each can be put back into the sources as they are
set -eu
build=$1 seconds=$2

# name, what sed does to the sources
plant() {
    name=$1
    where="$build/defects/$name"
    rm -rf "$where" && mkdir -p "$where"
    cp ./*.c ./*.h "$where/"
    shift
    sed -i "$@" "$where"/*.c
    changed=$(for file in *.c; do cmp -s "$file" "$where/$file" || echo "$file"; done)
    if [ -z "$changed" ]; then
        echo "fuzz-defects: $name is not planted: the sources have changed"
        exit 1
    fi
    [ "$seconds" -gt 0 ] || return 0
    ${MAKE:-make} -s "MUX_MADE=$where/fuzz_mux" "MUX_SOURCE=$where" MUX_SANITIZE=fuzzer "$where/fuzz_mux"
    begun=$(date +%s)
    if "$where/fuzz_mux" -max_total_time="$seconds" -max_len=120 -artifact_prefix="$where/" > "$where/log" 2>&1; then
        echo "fuzz-defects: $name was not found in $seconds s"
        exit 1
    fi
    took=$(($(date +%s) - begun))
    ${MAKE:-make} -s "MUX_SOURCE=$where" "BUILD=$where" "BLIND_FLAGS=-std=c11 -D_GNU_SOURCE -O1 -DSB_DEBUG -I$where" "$where/blind/mux"
    if "$where/blind/mux" 1000000 > "$where/blind.log" 2>&1; then
        echo "fuzz-defects: $name was not found by chance"
        exit 1
    fi
    echo "fuzz-defects: $name: $took s, $(tail -1 "$where/blind.log"): $(grep -m 1 'not so' "$where/log")"
}

plant frames-after-close -e 's/if (is_silent(mux, &event))/if (0 \&\& is_silent(mux, \&event))/'
plant lost-event -e 's/if (events_left(mux) > 0)/if (events_left(mux) > 1)/'
plant reused-id -e 's/slot->id = slot->id > .*;/slot->id = number;/'
plant memory-count -e '/counts.memory -= (int64_t)(before/d'
plant deadline-before-receive -e 's/if (is_on_its_way(row))/if (0 \&\& is_on_its_way(row))/' \
    -e 's/^    run_items(mux, n);/    sb__deadlines_run(mux);\n    run_items(mux, n);/'
