# Makes one C file of all of them: awk -f amalgamate.awk *.c
# Headers of our own go in once, where they are first wanted; sockbuf.h stays a file.
function take(file,    line) {
    print "\n/* ---- " file " */\n"
    while ((getline line < file) > 0) {
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
    print "/* sockbuf as one file, made from its sources: cc -c sockbuf.c.  See sockbuf.h. */"
    print "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif"
    print "#include \"sockbuf.h\""
    seen["sockbuf.h"] = 1
    for (i = 1; i < ARGC; i++)
        take(ARGV[i])
    exit
}
