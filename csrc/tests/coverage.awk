# Table of lines and branches from files of gcov -b -c, what is missing named below it; fails when anything is.
# A file may come from several builds: each line and branch has to be reached in one of them.
FNR == 1 { file = FILENAME; sub(/.*\//, "", file); sub(/\.gcov$/, "", file); line = "" }
match($0, /^ *[0-9#=-]+\*?: *[0-9]+:/) {
    split($0, part, ":")
    line = file ":" (part[2] + 0)
    way = 0
    if (part[1] ~ /-/ || part[2] + 0 == 0)
        next
    if (!(line in times)) {
        order[++n] = line
        file_of[line] = file
        text[line] = substr($0, RLENGTH + 1)
        sub(/^ +/, " ", text[line])
    }
    times[line] += part[1]
}
/^branch/ {
    way++
    if (ways[line] < way)
        ways[line] = way
    if ($0 !~ /never executed|taken 0/)
        taken[line, way] = 1
}
END {
    for (i = 1; i <= n; i++) {
        at = order[i]
        file = file_of[at]
        if (!(file in lines))
            files[++count] = file
        lines[file]++
        reached[file] += times[at] > 0
        edges[file] += ways[at]
        left = 0
        for (way = 1; way <= ways[at]; way++)
            left += !taken[at, way]
        crossed[file] += ways[at] - left
        if (times[at] == 0)
            missing = missing at ": not reached:" text[at] "\n"
        else if (left > 0)
            missing = missing at ": " left " of " ways[at] " ways not taken:" text[at] "\n"
    }
    row("file", "lines", "reached", "edges", "reached")
    for (i = 1; i <= count; i++) {
        f = files[i]
        row(f, lines[f], share(reached[f], lines[f]), edges[f], share(crossed[f], edges[f]))
        all_lines += lines[f]; all_reached += reached[f]; all_edges += edges[f]; all_crossed += crossed[f]
    }
    row("all", all_lines, share(all_reached, all_lines), all_edges + 0, share(all_crossed, all_edges))
    printf "%s", missing
    exit n == 0 || missing != ""
}
# Cut, not rounded: 100.00 % is all of them.
function share(part, whole) { return sprintf("%.2f%%", whole > 0 ? int(10000 * part / whole) / 100 : 100) }
function row(a, b, c, d, e) { printf "%-20s %6s %8s   %6s %8s\n", a, b, c, d, e }
