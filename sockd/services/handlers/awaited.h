/* SPDX-License-Identifier: MIT */
/*
 * awaited - what the types LineWaiter, LineSource, NextLine and LineDelivery have in common
 *
 *   What happens for each line of a coroutine service where nothing is special, without a frame of Python but those of
 *   the handler: lines have come whole, alone or together, and they are short enough.  Everything else is left to the
 *   methods of sockd.services.handlers.streams.StreamReader, of which LineSource is a base.
 */
#ifndef SOCKD_AWAITED_H
#define SOCKD_AWAITED_H

#include "python.h"

#include <structmember.h>

#include <stddef.h>

enum waiter_state { WAITER_WAITS, WAITER_DONE, WAITER_CANCELLED };

typedef struct sockd_line_waiter {
    PyObject_HEAD
    PyObject *loop, *call_soon; /* what appends to the callbacks of its turn */
    PyObject *callback, *context; /* of the task */
    PyObject *error;
    enum waiter_state state;
    char is_blocking;
} sockd_line_waiter;

typedef struct sockd_line_source {
    PyObject_HEAD
    PyObject *loop, *call_soon;
    PyObject *lines, *push, *pop; /* a deque, its append() and popleft() */
    PyObject *buffer;             /* a bytearray: what is not cut into lines yet */
    PyObject *waiter;             /* whoever waits, for a line or for something else; NULL or None: nobody does */
    PyObject *is_late;            /* a function: whether coroutines have had their time of this turn */
    PyObject *since;              /* when the beginning of a line came, whose rest is waited for; NULL or None */
    Py_ssize_t limit;             /* of a line without its ending */
    Py_ssize_t size, full;        /* bytes of the lines in the queue, or more; past which the peer is held up */
    int left, quantum;            /* so many lines may be read before the clock is; and as many after that */
    char is_open, is_by_line, is_paused, has_overrun;
} sockd_line_source;

/* One module in a process, cffi's: sockd/buffer/types.c sets them. */
extern PyTypeObject *sockd_next_line_type, *sockd_line_waiter_type;

extern PyType_Spec sockd_line_waiter_spec, sockd_line_source_spec, sockd_next_line_spec, sockd_line_delivery_spec;

/* A new object of a type with the collector's head; all references in it are NULL. */
static inline PyObject *sockd_allocate(PyTypeObject *type)
{
    allocfunc make = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return make(type, 0);
}

/* Have the task woken, if it waits by now.  0, or -1: an exception. */
int sockd_waiter_end(sockd_line_waiter *self, enum waiter_state state);

/* Take what has come: the method LineSource.feed(). */
PyObject *sockd_source_feed(PyObject *source, PyObject *block);

/* The line that may be read now: a new reference.  NULL: none, or an exception.
 * is_free: whoever reads it was woken for it, or has read the clock: it is not counted. */
PyObject *sockd_source_pop(sockd_line_source *source, int is_free);

/* Whether lines are there that may be read once the clock was. */
int sockd_source_must_ask(const sockd_line_source *source);

/* Read the clock: whether to yield to others.  It is read again after some more reads.  1, 0, or -1: an exception. */
int sockd_source_is_over(sockd_line_source *source);

/* Whether nothing has come, nobody else waits for it, and the peer is not held up. */
int sockd_source_may_wait(const sockd_line_source *source);

/* A new NextLine; is_iteration: the end of file is StopAsyncIteration. */
PyObject *sockd_next_of(PyObject *source, int is_iteration);

#endif
