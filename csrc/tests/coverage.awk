# Table of lines and branches from the output of gcov -b; what is missing is named below it.
/^$/ { file = "/none" }
/^File '/ { split($0, part, "'"); file = part[2]; next }
file ~ /\.h$/ || file ~ /^\// { next }
/^Lines executed/ { split($0, part, "[:%]"); lines[file] = part[2]; sub(/.* of /, ""); of_lines[file] = $0; order[++n] = file }
/^Taken at least once/ { split($0, part, "[:%]"); branches[file] = part[2]; sub(/.* of /, ""); of_branches[file] = $0 }
/^No branches/ { branches[file] = 100; of_branches[file] = 0 }
END {
    printf "%-20s %6s %8s   %6s %8s\n", "file", "lines", "reached", "edges", "reached"
    for (i = 1; i <= n; i++) {
        f = order[i]
        printf "%-20s %6d %7.2f%%   %6d %7.2f%%\n", f, of_lines[f], lines[f], of_branches[f], branches[f]
        l += of_lines[f]; lr += of_lines[f] * lines[f] / 100
        b += of_branches[f]; br += of_branches[f] * branches[f] / 100
    }
    printf "%-20s %6d %7.2f%%   %6d %7.2f%%\n", "all", l, 100 * lr / l, b, 100 * br / b
}
