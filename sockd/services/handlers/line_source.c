/* SPDX-License-Identifier: MIT */
/*
 * line_source - the type LineSource: lines that have come, and who waits for them
 */
#include "awaited.h"

/* <cffi> from here to </cffi> the Python extension reads these declarations */
enum {
    SOCKD_PIECE_BYTES = 4096, /* cut at once: 0.1 ms where all of it are newlines */
    SOCKD_MAX_LINES = 1024,   /* in the queue, past which nothing is added to it */
};
/* </cffi> */

enum { MAX_READS = 8 }; /* without a look at the clock; one where the turn was over, and twice as many each time it was not */

static int source_traverse(PyObject *object, visitproc visit, void *arg)
{
    sockd_line_source *self = (sockd_line_source *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->loop);
    Py_VISIT(self->call_soon);
    Py_VISIT(self->lines);
    Py_VISIT(self->push);
    Py_VISIT(self->pop);
    Py_VISIT(self->buffer);
    Py_VISIT(self->waiter);
    Py_VISIT(self->is_late);
    Py_VISIT(self->since);
    return 0;
}

static int source_clear(PyObject *object)
{
    sockd_line_source *self = (sockd_line_source *)object;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->call_soon);
    Py_CLEAR(self->lines);
    Py_CLEAR(self->push);
    Py_CLEAR(self->pop);
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->is_late);
    Py_CLEAR(self->since);
    return 0;
}

static void source_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    source_clear(object);
    sockd_free(object);
}

static int has_no_bytes(const sockd_line_source *self)
{
    return self->buffer != NULL && PyByteArray_Check(self->buffer) && PyByteArray_Size(self->buffer) == 0;
}

/* Whether a block is whole lines, one or more of them, in so far as can be told from its end. */
static int is_whole(PyObject *block)
{
    if (!PyBytes_CheckExact(block))
        return 0;
    sockd_bytes bytes = sockd_bytes_in(block);
    return bytes.size > 0 && bytes.data[bytes.size - 1] == '\n';
}

/* The lines of a block, as a list.  NULL: one is too long, or an exception. */
static PyObject *cut(PyObject *block, Py_ssize_t limit)
{
    sockd_bytes bytes = sockd_bytes_in(block);
    PyObject *lines = PyList_New(0);
    for (size_t at = 0; lines != NULL && at < bytes.size;) {
        const char *end = memchr(bytes.data + at, '\n', bytes.size - at);
        Py_ssize_t size = end - (bytes.data + at) + 1;
        PyObject *line = size - 1 <= limit ? PyBytes_FromStringAndSize(bytes.data + at, size) : NULL;
        if (line == NULL || PyList_Append(lines, line) < 0)
            Py_CLEAR(lines);
        Py_XDECREF(line);
        at += (size_t)size;
    }
    return lines;
}

static int may_add(const sockd_line_source *self)
{
    return self->is_by_line && self->lines != NULL && has_no_bytes(self);
}

/* Add the lines of a block to the queue.  1; 0: that is not for here; -1: an exception. */
static int add_lines(sockd_line_source *self, PyObject *block)
{
    Py_ssize_t size = PyBytes_Size(block), waiting = PyObject_Size(self->lines);
    if (waiting == 0)
        self->size = 0;
    if (waiting < 0 || waiting > SOCKD_MAX_LINES || size > SOCKD_PIECE_BYTES || size > self->full - self->size)
        return waiting < 0 ? -1 : 0;
    PyObject *lines = cut(block, self->limit);
    if (lines == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int may_still = may_add(self) && !self->is_paused; /* the collector may have run somebody's code */
    PyObject *queue = may_still ? PySequence_InPlaceConcat(self->lines, lines) : NULL;
    Py_DECREF(lines);
    if (queue == NULL)
        return may_still ? -1 : 0;
    Py_DECREF(queue);
    self->size += size;
    return 1;
}

/* Add a line to the queue, without a copy.  1 or -1. */
static int add_line(sockd_line_source *self, PyObject *line)
{
    PyObject *listed = PyObject_CallFunctionObjArgs(self->push, line, NULL); /* and not counted: it is read first */
    Py_XDECREF(listed);
    return listed == NULL ? -1 : 1;
}

static int is_line(PyObject *block, Py_ssize_t limit)
{
    sockd_bytes bytes = sockd_bytes_in(block);
    return (Py_ssize_t)bytes.size - 1 <= limit && memchr(bytes.data, '\n', bytes.size) == bytes.data + bytes.size - 1;
}

/* Have whoever waits woken, if anybody does.  0, or -1. */
static int wake(sockd_line_source *self)
{
    PyObject *waiter = self->waiter;
    if (waiter == NULL || waiter == Py_None)
        return 0;
    if (Py_TYPE(waiter) != sockd_line_waiter_type) { /* the collector has run somebody's code */
        PyObject *woken = PyObject_CallMethod((PyObject *)self, "_wakeup_waiter", NULL);
        Py_XDECREF(woken);
        return woken == NULL ? -1 : 0;
    }
    self->waiter = NULL;
    int code = 0;
    if (((sockd_line_waiter *)waiter)->state == WAITER_WAITS) /* it was not cancelled */
        code = sockd_waiter_end((sockd_line_waiter *)waiter, WAITER_DONE);
    Py_DECREF(waiter);
    return code;
}

PyObject *sockd_source_feed(PyObject *object, PyObject *block)
{
    sockd_line_source *self = (sockd_line_source *)object;
    int is_waited = self->waiter != NULL && Py_TYPE(self->waiter) == sockd_line_waiter_type, added = 0;
    if ((is_waited || self->waiter == NULL || self->waiter == Py_None) && may_add(self) && is_whole(block))
        added = is_waited && is_line(block, self->limit) ? add_line(self, block) : add_lines(self, block);
    if (added <= 0)
        return added < 0 ? NULL : PyObject_CallMethod(object, "_feed", "(O)", block);
    Py_CLEAR(self->since);
    return wake(self) < 0 ? NULL : Py_NewRef(Py_None);
}

static int has_lines(const sockd_line_source *source)
{
    return source->lines != NULL && PyObject_Size(source->lines) > 0;
}

PyObject *sockd_source_pop(sockd_line_source *source, int is_free)
{
    if (source->is_paused || (!is_free && source->left <= 0)) /* each is counted, or it is time to read the clock */
        return NULL;
    if (!has_lines(source))
        return NULL;
    source->left -= !is_free;
    return PyObject_CallNoArgs(source->pop);
}

int sockd_source_must_ask(const sockd_line_source *source)
{
    return source->left <= 0 && !source->is_paused && has_lines(source);
}

int sockd_source_is_over(sockd_line_source *source)
{
    PyObject *is_late = Py_XNewRef(source->is_late);
    if (is_late == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_is_late");
        return -1;
    }
    PyObject *answer = PyObject_CallNoArgs(is_late);
    Py_DECREF(is_late);
    int is_over = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (is_over >= 0) {
        int doubled = source->quantum < MAX_READS / 2 ? 2 * source->quantum : MAX_READS;
        source->left = source->quantum = is_over ? 1 : doubled;
    }
    return is_over;
}

static PyObject *source_is_over(PyObject *object, PyObject *Py_UNUSED(none))
{
    int is_over = sockd_source_is_over((sockd_line_source *)object);
    return is_over < 0 ? NULL : PyBool_FromLong(is_over);
}

int sockd_source_may_wait(const sockd_line_source *source)
{
    return (source->waiter == NULL || source->waiter == Py_None) && source->is_open && !source->is_paused && source->loop != NULL
        && source->lines != NULL && PyObject_Size(source->lines) == 0 && has_no_bytes(source);
}

static PyObject *source_line(PyObject *object, PyObject *Py_UNUSED(none))
{
    return sockd_next_of(object, 0);
}

static PyObject *source_anext(PyObject *object)
{
    return sockd_next_of(object, 1);
}

static PyObject *source_use(PyObject *object, PyObject *args)
{
    sockd_line_source *self = (sockd_line_source *)object;
    PyObject *lines, *call_soon;
    if (!PyArg_UnpackTuple(args, "_use", 2, 2, &lines, &call_soon))
        return NULL;
    PyObject *push = PyObject_GetAttrString(lines, "append");
    PyObject *pop = push == NULL ? NULL : PyObject_GetAttrString(lines, "popleft");
    if (push == NULL || pop == NULL || self->loop == NULL || self->lines != NULL) {
        Py_XDECREF(push);
        Py_XDECREF(pop);
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, "once, behind StreamReader.__init__()");
        return NULL;
    }
    self->lines = Py_NewRef(lines);
    self->call_soon = Py_NewRef(call_soon);
    self->push = push;
    self->pop = pop;
    self->is_open = self->is_by_line = 1;
    return Py_NewRef(Py_None);
}

static PyMethodDef source_methods[] = {
    {"feed", sockd_source_feed, METH_O, "Take what has come."},
    {"_line", source_line, METH_NOARGS, "Return what gives the next line when it is awaited, b\"\" at the end of file."},
    {"_is_over", source_is_over, METH_NOARGS, "Read the clock: whether to yield to others. It is read again after some reads."},
    {"_use", source_use, METH_VARARGS, "Set the queue of lines, and what appends to the callbacks of the loop's turn."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef source_members[] = {
    {"_loop", T_OBJECT, offsetof(sockd_line_source, loop), 0, NULL},
    {"_lines", T_OBJECT, offsetof(sockd_line_source, lines), READONLY, NULL},
    {"_buffer", T_OBJECT, offsetof(sockd_line_source, buffer), 0, NULL},
    {"_waiter", T_OBJECT, offsetof(sockd_line_source, waiter), 0, NULL},
    {"_is_late", T_OBJECT, offsetof(sockd_line_source, is_late), 0, NULL},
    {"_since", T_OBJECT, offsetof(sockd_line_source, since), 0, NULL},
    {"_size", T_PYSSIZET, offsetof(sockd_line_source, size), 0, NULL},
    {"_full", T_PYSSIZET, offsetof(sockd_line_source, full), 0, NULL},
    {"_quantum", T_INT, offsetof(sockd_line_source, quantum), 0, NULL},
    {"_limit", T_PYSSIZET, offsetof(sockd_line_source, limit), 0, NULL},
    {"_left", T_INT, offsetof(sockd_line_source, left), 0, NULL},
    {"_is_open", T_BOOL, offsetof(sockd_line_source, is_open), 0, NULL},
    {"_is_by_line", T_BOOL, offsetof(sockd_line_source, is_by_line), 0, NULL},
    {"_paused", T_BOOL, offsetof(sockd_line_source, is_paused), 0, NULL},
    {"has_overrun", T_BOOL, offsetof(sockd_line_source, has_overrun), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot source_slots[] = {
    {Py_tp_doc, "Lines that have come, and who waits for them."},
    {Py_tp_methods, source_methods},
    {Py_tp_members, source_members},
    {Py_am_anext, (void *)source_anext},
    {Py_tp_traverse, (void *)source_traverse},
    {Py_tp_clear, (void *)source_clear},
    {Py_tp_dealloc, (void *)source_dealloc},
    {0, NULL},
};

PyType_Spec sockd_line_source_spec = {
    .name = "sockd._sockbuf.LineSource",
    .basicsize = sizeof(sockd_line_source),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = source_slots,
};
