/* SPDX-License-Identifier: MIT */
/*
 * next_line - the type NextLine: the next line of a source, awaited
 *
 * DESCRIPTION
 *   NextLine is what a reader's __anext__() returns and its readline() awaits, and passes for a coroutine.  It looks at the
 *   lines when it is awaited, not before: one that nobody awaits has no effect.
 */
#include "awaited.h"

enum next_state { NEXT_NEW, NEXT_ASKS, NEXT_WAITS, NEXT_RESTS, NEXT_ENDED };

typedef struct sockd_next_line {
    PyObject_HEAD
    sockd_line_source *source;
    PyObject *waiter; /* its own, in NEXT_WAITS */
    PyObject *rest;   /* the coroutine that does what is special */
    enum next_state state;
    char is_iteration; /* the end of file is StopAsyncIteration */
} sockd_next_line;

static int next_traverse(PyObject *object, visitproc visit, void *arg)
{
    sockd_next_line *self = (sockd_next_line *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->source);
    Py_VISIT(self->waiter);
    Py_VISIT(self->rest);
    return 0;
}

static int next_clear(PyObject *object)
{
    sockd_next_line *self = (sockd_next_line *)object;
    self->state = NEXT_ENDED;
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->rest);
    Py_CLEAR(self->source);
    return 0;
}

static int is_waiting(const sockd_next_line *self)
{
    return self->waiter != NULL && self->source->waiter == self->waiter;
}

static void next_dealloc(PyObject *object)
{
    sockd_next_line *self = (sockd_next_line *)object;
    PyObject_GC_UnTrack(object);
    if (self->source != NULL && is_waiting(self)) { /* nobody has closed it */
        Py_CLEAR(self->source->waiter);
        Py_CLEAR(self->source->since);
    }
    next_clear(object);
    sockd_free(object);
}

PyObject *sockd_next_of(PyObject *source, int is_iteration)
{
    sockd_next_line *made = (sockd_next_line *)sockd_allocate(sockd_next_line_type);
    if (made == NULL)
        return NULL;
    made->source = (sockd_line_source *)Py_NewRef(source);
    made->is_iteration = (char)is_iteration;
    return (PyObject *)made;
}

/* A new waiter, with a reference kept.  NULL: one is not what is needed here, or an exception. */
static PyObject *begin_to_wait(sockd_next_line *self)
{
    sockd_line_source *source = self->source;
    if (self->state != NEXT_NEW || !sockd_source_may_wait(source))
        return NULL;
    sockd_line_waiter *waiter = (sockd_line_waiter *)sockd_allocate(sockd_line_waiter_type);
    if (waiter == NULL)
        return NULL;
    if (self->state != NEXT_NEW || !sockd_source_may_wait(source)) { /* the collector has run somebody's code */
        Py_DECREF(waiter);
        return NULL;
    }
    self->state = NEXT_WAITS;
    self->waiter = Py_NewRef((PyObject *)waiter);
    waiter->loop = Py_NewRef(source->loop);
    waiter->call_soon = Py_NewRef(source->call_soon);
    waiter->is_blocking = 1;
    Py_CLEAR(source->waiter);
    source->waiter = Py_NewRef((PyObject *)waiter);
    source->is_by_line = 1;
    source->has_overrun = 0;
    return (PyObject *)waiter;
}

/* What the rest gave.  Its last is a line, empty at the end of file. */
static PySendResult rest_gave(sockd_next_line *self, PySendResult code, PyObject **result)
{
    if (code == PYGEN_NEXT)
        return code;
    self->state = NEXT_ENDED;
    Py_CLEAR(self->rest);
    if (code == PYGEN_RETURN && self->is_iteration && PyObject_Size(*result) == 0) {
        Py_CLEAR(*result);
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return PYGEN_ERROR;
    }
    return code;
}

static PySendResult send_to_rest(sockd_next_line *self, PyObject *value, PyObject **result)
{
    PyObject *rest = Py_NewRef(self->rest); /* what it calls may close this object */
    PySendResult code = rest_gave(self, PyIter_Send(rest, value, result), result);
    Py_DECREF(rest);
    return code;
}

/* Stop waiting.  0, or -1. */
static int give_up(sockd_next_line *self)
{
    int was_waiting = is_waiting(self);
    self->state = NEXT_ENDED;
    Py_CLEAR(self->waiter);
    PyObject *done = was_waiting ? PyObject_CallMethod((PyObject *)self->source, "_give_up", NULL) : Py_NewRef(Py_None);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Whether it is asked for the line again by what it calls: an exception, as of a coroutine. */
static int is_asking(const sockd_next_line *self)
{
    if (self->state == NEXT_ASKS)
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
    return self->state == NEXT_ASKS;
}

/* Read the clock: whether to yield to others; or -1. */
static int ask(sockd_next_line *self)
{
    self->state = NEXT_ASKS;
    int is_over = sockd_source_is_over(self->source);
    if (is_over < 0)
        self->state = NEXT_ENDED;
    return is_over;
}

static PySendResult next_send(PyObject *object, PyObject *value, PyObject **result)
{
    sockd_next_line *self = (sockd_next_line *)object;
    *result = NULL;
    if (self->state == NEXT_RESTS)
        return send_to_rest(self, value, result);
    if (is_asking(self))
        return PYGEN_ERROR;
    int was_woken = self->state == NEXT_WAITS, is_over = 0;
    if (self->state == NEXT_ENDED || (was_woken && ((sockd_line_waiter *)self->waiter)->state == WAITER_WAITS)) {
        int is_early = was_woken && give_up(self) == 0;
        if (is_early || !PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, is_early ? "await wasn't used with future" : "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (!was_woken && sockd_source_must_ask(self->source) && (is_over = ask(self)) < 0)
        return PYGEN_ERROR;
    if (!is_over && (*result = sockd_source_pop(self->source, was_woken || self->state == NEXT_ASKS)) != NULL) {
        self->state = NEXT_ENDED;
        Py_CLEAR(self->waiter);
        return PYGEN_RETURN;
    }
    if (!PyErr_Occurred() && (*result = begin_to_wait(self)) != NULL)
        return PYGEN_NEXT;
    PyObject *rest =
        PyErr_Occurred() ? NULL : PyObject_CallMethod((PyObject *)self->source, "_next_line", "ii", was_woken, is_over);
    if (rest == NULL) {
        if (self->state == NEXT_ASKS)
            self->state = NEXT_ENDED;
        return PYGEN_ERROR;
    }
    self->rest = rest;
    self->state = NEXT_RESTS;
    Py_CLEAR(self->waiter);
    return send_to_rest(self, Py_None, result);
}

/* What an iterator gives, of what send() does. */
static PyObject *as_iteration(PySendResult code, PyObject *result)
{
    if (code != PYGEN_RETURN)
        return result;
    PyErr_SetObject(PyExc_StopIteration, result);
    Py_DECREF(result);
    return NULL;
}

static PyObject *next_send_method(PyObject *object, PyObject *value)
{
    PyObject *result;
    PySendResult code = next_send(object, value, &result);
    return as_iteration(code, result);
}

static PyObject *next_iternext(PyObject *object)
{
    return next_send_method(object, Py_None);
}

/* throw(exception), or throw(type, value, traceback) as before Python 3.12 */
static PyObject *throw_to_rest(sockd_next_line *self, PyObject *args)
{
    PyObject *throw = PyObject_GetAttrString(self->rest, "throw");
    PyObject *given = throw == NULL ? NULL : PyObject_CallObject(throw, args);
    Py_XDECREF(throw);
    if (given == NULL) {
        self->state = NEXT_ENDED;
        Py_CLEAR(self->rest);
    }
    return given;
}

static PyObject *next_throw(PyObject *object, PyObject *args)
{
    sockd_next_line *self = (sockd_next_line *)object;
    PyObject *type, *value = NULL, *trace = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &trace))
        return NULL;
    if (self->state == NEXT_RESTS)
        return throw_to_rest(self, args);
    int is_instance = PyExceptionInstance_Check(type);
    if (!is_instance && !PyExceptionClass_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException");
        return NULL;
    }
    if (self->state == NEXT_ENDED) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    if (is_asking(self))
        return NULL;
    if (give_up(self) < 0)
        return NULL;
    if (is_instance) {
        value = type;
        type = (PyObject *)Py_TYPE(value);
    }
    trace = trace == NULL || trace == Py_None ? is_instance ? PyException_GetTraceback(value) : NULL : Py_NewRef(trace);
    PyErr_Restore(Py_NewRef(type), value != Py_None ? Py_XNewRef(value) : NULL, trace);
    if (PyErr_ExceptionMatches(PyExc_StopIteration)) /* which would be a result */
        PyErr_SetString(PyExc_RuntimeError, "coroutine raised StopIteration");
    return NULL;
}

static PyObject *next_close(PyObject *object, PyObject *Py_UNUSED(none))
{
    sockd_next_line *self = (sockd_next_line *)object;
    if (is_asking(self))
        return NULL;
    if (self->state != NEXT_RESTS)
        return give_up(self) < 0 ? NULL : Py_NewRef(Py_None);
    self->state = NEXT_ENDED;
    PyObject *rest = self->rest;
    self->rest = NULL;
    PyObject *closed = PyObject_CallMethod(rest, "close", NULL);
    Py_DECREF(rest);
    return closed;
}

static PyMethodDef next_methods[] = {
    {"close", next_close, METH_NOARGS, "Stop waiting."},
    {"send", next_send_method, METH_O, "Go on, as a coroutine."},
    {"throw", next_throw, METH_VARARGS, "Stop waiting, by an exception: throw(exception)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot next_slots[] = {
    {Py_tp_doc, "The next line, when it is awaited."},
    {Py_tp_methods, next_methods},
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)next_iternext},
    {Py_am_await, (void *)PyObject_SelfIter},
    {Py_am_send, (void *)next_send},
    {Py_tp_traverse, (void *)next_traverse},
    {Py_tp_clear, (void *)next_clear},
    {Py_tp_dealloc, (void *)next_dealloc},
    {0, NULL},
};

PyType_Spec sockd_next_line_spec = {
    .name = "sockd._sockbuf.NextLine",
    .basicsize = sizeof(sockd_next_line),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = next_slots,
};
