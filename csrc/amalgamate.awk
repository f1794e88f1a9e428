# Makes one C file of many: awk -v headers="sockbuf.h sockmux.h" -f amalgamate.awk *.c
# Private headers go in once, where they are first wanted; the public ones, named here, stay files.
# What is of the system's is asked for once, in front.
# SPDX-License-Identifier: MIT
function take(file,    line) {
    print "\n/* ---- " file " */\n"
    while ((getline line < file) > 0) {
        if (line ~ /^\/\* SPDX/)
            continue
        if (line ~ /^#include "/) {
            split(line, part, "\"")
            if (!(part[2] in seen)) {
                seen[part[2]] = 1
                take(part[2])
            }
        } else
            print line
    }
    close(file)
}
BEGIN {
    n = split(headers, public, " ")
    name = public[n]
    sub(/\.h$/, "", name)
    print "/* SPDX-License-Identifier: MIT */"
    print "/* " name " as one file, made from its sources: cc -c " name ".c.  See " name ".h. */"
    seen["system.h"] = 1
    take("system.h")
    print "#include \"" public[n] "\""
    for (i = 1; i <= n; i++)
        seen[public[i]] = 1
    for (i = 1; i < ARGC; i++)
        take(ARGV[i])
    exit
}
