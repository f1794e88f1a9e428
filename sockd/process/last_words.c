/* SPDX-License-Identifier: MIT */
/*
 * last_words - the line of a process that is ended by force, without the interpreter
 *
 * DESCRIPTION
 *   sockd_last_words() makes one line of the log from a template, which the log's own
 *   formatter has written before, and from what faulthandler has dumped of Python's
 *   threads.  It allocates nothing, calls nothing but memcpy(3) and its like and is
 *   bounded, for it runs in a signal handler while the interpreter stands still.
 *
 *   The place that is named is where user code was called: of the frames within
 *   sockd's innermost one, the outermost that is not the standard library's.  If the
 *   main thread is within no user code, the first thread that is.
 *
 * SOURCE
 *   signal-safety(7); faulthandler.dump_traceback(); RFC 3339
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "last_words.h"

enum { MOST_FRAMES = 100, FRAMES_TOLD = 8, PLACE_ROOM = 600, STACK_ROOM = 1800, SECONDS_A_DAY = 86400 };

struct text {
    const char *at;
    size_t size;
};

struct frame {
    struct text file, line, name;
};

enum kind { OF_USER, OF_LIBRARY, OF_SOCKD };

struct thread {
    struct frame frames[MOST_FRAMES]; /* from the innermost on */
    enum kind kinds[MOST_FRAMES];
    int count;
    int is_current;
    int is_called; /* by sockd */
    int first, last; /* innermost and outermost of the frames to tell; last is the one to name, -1 for none */
};

struct writer {
    char *at;
    size_t used, room;
};

/* ---- written */

static void put(struct writer *to, const char *from, size_t size)
{
    size_t left = to->room - to->used;
    size_t copied = size < left ? size : left;
    memcpy(to->at + to->used, from, copied);
    to->used += copied;
}

static void put_value(struct writer *to, struct text value, int is_quoted)
{
    for (size_t i = 0; i < value.size; i++) {
        if (is_quoted && (value.at[i] == '"' || value.at[i] == '\\'))
            put(to, "\\", 1);
        put(to, value.at + i, 1);
    }
}

static void put_number(struct writer *to, int64_t number, int digits)
{
    char text[20];
    for (int i = digits - 1; i >= 0; i--, number /= 10)
        text[i] = (char)('0' + number % 10);
    put(to, text, (size_t)digits);
}

/* RFC 3339 in UTC; gmtime_r(3) may not be called here.  Days are counted from 0000-03-01, in eras of 400 years. */
static void put_time(struct writer *to, int64_t milliseconds)
{
    int64_t seconds = milliseconds / 1000, days = seconds / SECONDS_A_DAY + 719468, rest = seconds % SECONDS_A_DAY;
    int64_t era = days / 146097, day = days % 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    int64_t month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    month += month < 10 ? 3 : -9;
    year += era * 400 + (month <= 2);
    const int64_t parts[] = {year, month, day + 1, rest / 3600, rest / 60 % 60, rest % 60, milliseconds % 1000};
    const int digits[] = {4, 2, 2, 2, 2, 2, 3};
    for (int i = 0; i < 7; i++) {
        put_number(to, parts[i], digits[i]);
        put(to, &"--T::.Z"[i], 1);
    }
}

/* ---- read */

static int begins(struct text text, const char *with)
{
    size_t size = strlen(with);
    return size > 0 && text.size >= size && memcmp(text.at, with, size) == 0;
}

static int contains(struct text text, const char *what)
{
    size_t size = strlen(what);
    for (size_t i = 0; i + size <= text.size; i++)
        if (memcmp(text.at + i, what, size) == 0)
            return 1;
    return 0;
}

/* Read `  File "NAME", line NUMBER in FUNCTION`; a name may have quotes in it, so the last ones count. */
static int read_frame(struct text line, struct frame *frame)
{
    static const char begin[] = "  File \"", middle[] = "\", line ", end[] = " in ";
    if (!begins(line, begin))
        return 0;
    size_t from = sizeof begin - 1, at = line.size;
    while (at > from && !begins((struct text){line.at + at, line.size - at}, middle))
        at--;
    if (at <= from)
        return 0;
    frame->file = (struct text){line.at + from, at - from};
    from = at + sizeof middle - 1;
    at = from;
    while (at < line.size && line.at[at] != ' ')
        at++;
    frame->line = (struct text){line.at + from, at - from};
    at += begins((struct text){line.at + at, line.size - at}, end) ? sizeof end - 1 : 0;
    frame->name = (struct text){line.at + at, line.size - at};
    return 1;
}

static enum kind kind_of(const sockd_template *how, struct text file)
{
    if (begins(file, how->package))
        return OF_SOCKD;
    if (begins(file, "<")) /* <frozen importlib._bootstrap> */
        return OF_LIBRARY;
    int is_installed = contains(file, "site-packages") || contains(file, "dist-packages");
    return begins(file, how->library) && !is_installed ? OF_LIBRARY : OF_USER;
}

static void write_frame(const sockd_template *how, struct thread *thread, struct text line)
{
    struct frame *frame = &thread->frames[thread->count];
    if (thread->count < MOST_FRAMES - 1 && read_frame(line, frame))
        thread->kinds[thread->count++] = kind_of(how, frame->file);
}

/* Find the innermost frames that sockd has called, and of these the outermost that is the user's.  Frames of sockd's
 * may be within them: its handler of a tick (stall.py).  What is outside of all of sockd's has called it. */
static void judge(struct thread *thread)
{
    int outer = thread->count;
    for (int i = 0; i < thread->count; i++)
        if (thread->kinds[i] == OF_SOCKD)
            outer = i;
    thread->is_called = outer < thread->count;
    thread->first = 0;
    thread->last = -1;
    for (int i = 0; i < outer; i++) {
        if (thread->kinds[i] == OF_USER)
            thread->last = i;
        if (thread->kinds[i] == OF_SOCKD) {
            if (thread->last >= 0)
                return;
            thread->first = i + 1;
        }
    }
}

/* Keep the best one: the main thread in user code; one that sockd has called; one that has begun by itself. */
static int worth(const struct thread *thread)
{
    if (thread->last < 0)
        return thread->is_current && thread->count > 0 ? 1 : 0;
    return thread->is_current ? 4 : thread->is_called ? 3 : 2;
}

static void compare_thread(struct thread *thread, struct thread *best)
{
    judge(thread);
    if (worth(thread) > worth(best))
        *best = *thread;
    thread->count = 0;
}

static struct text next_line(struct text *left)
{
    size_t size = 0;
    while (size < left->size && left->at[size] != '\n')
        size++;
    struct text line = {left->at, size};
    size += size < left->size;
    *left = (struct text){left->at + size, left->size - size};
    return line;
}

static void find(const sockd_template *how, struct text dump, struct thread *best)
{
    struct thread thread = {.last = -1};
    while (dump.size > 0) {
        struct text line = next_line(&dump);
        int is_current = begins(line, "Current thread");
        if (is_current || begins(line, "Thread")) {
            compare_thread(&thread, best);
            thread.is_current = is_current;
        } else
            write_frame(how, &thread, line);
    }
    compare_thread(&thread, best);
}

/* ---- both */

static void put_frame(struct writer *to, const struct frame *frame, int is_quoted, int with_name)
{
    put_value(to, frame->file, is_quoted);
    put(to, ":", 1);
    put_value(to, frame->line, is_quoted);
    if (with_name) {
        put(to, " ", 1);
        put_value(to, frame->name, is_quoted);
    }
}

/* A part with its own room, so that a long one does not displace the following ones; never half of an escape. */
static void put_place(struct writer *to, const struct thread *thread, int is_quoted, int is_stack)
{
    char part[STACK_ROOM];
    struct writer own = {part, 0, is_stack ? STACK_ROOM : PLACE_ROOM};
    int outer = thread->last < 0 ? 0 : thread->last;
    int inner = !is_stack ? outer : thread->last < 0 ? 0 : thread->first;
    if (outer - inner >= FRAMES_TOLD)
        inner = outer - FRAMES_TOLD + 1;
    for (int i = outer; thread->count > 0 && i >= inner; i--) {
        if (i < outer)
            put(&own, " > ", 3);
        put_frame(&own, &thread->frames[i], is_quoted, is_stack);
    }
    size_t back = 0;
    while (back < own.used && part[own.used - 1 - back] == '\\')
        back++;
    if (is_quoted && own.used == own.room && back % 2 == 1)
        own.used--;
    put(to, part, own.used);
}

int32_t sockd_last_words(const sockd_template *how, const char *dump, int32_t dump_size, const char *signal,
                         int64_t milliseconds, char *line, int32_t room)
{
    struct thread best = {.last = -1};
    find(how, (struct text){dump, (size_t)dump_size}, &best);
    struct writer to = {line, 0, (size_t)room};
    for (int32_t i = 0; i < how->size; i++) {
        switch (how->text[i]) {
        case SOCKD_SLOT_TIME:
            put_time(&to, milliseconds);
            break;
        case SOCKD_SLOT_SIGNAL:
            put(&to, signal, strlen(signal));
            break;
        case SOCKD_SLOT_PLACE:
            put_place(&to, &best, how->is_quoted, 0);
            break;
        case SOCKD_SLOT_STACK:
            put_place(&to, &best, how->is_quoted, 1);
            break;
        default:
            put(&to, how->text + i, 1);
        }
    }
    return (int32_t)to.used;
}
