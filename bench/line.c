/* SPDX-License-Identifier: MIT */
/*
 * line.c - what inetd would execute: one line from standard input, in upper case to standard output
 */
#include <ctype.h>
#include <unistd.h>

int main(void)
{
    char line[4096];
    ssize_t n = read(0, line, sizeof line);
    for (ssize_t i = 0; i < n; i++)
        line[i] = (char)toupper((unsigned char)line[i]);
    return n > 0 && write(1, line, (size_t)n) == n ? 0 : 1;
}
