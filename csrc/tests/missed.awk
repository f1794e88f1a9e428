# What no test reached: lines, and the ways out of a line that were never taken.
function flush() {
    if (missed) print file ":" number ": " missed " of " ways " ways not taken:" text
    missed = ways = 0
}
match($0, /^ *[0-9#=-]+\*?: *[0-9]+:/) {
    flush()
    file = FILENAME; sub(/\.gcov$/, "", file)
    split($0, part, ":"); number = part[2] + 0
    text = substr($0, RLENGTH + 1); sub(/^ +/, " ", text)
    if ($0 ~ /^ *#####/) print file ":" number ": not reached:" text
}
/^branch/ { ways++ }
/^branch .*(never executed|taken 0)/ { missed++ }
END { flush() }
