/* SPDX-License-Identifier: MIT */
/*
 * awaited - the types LineSource, NextLine and LineWaiter: a coroutine waits for a line, and is woken with it
 *
 * DESCRIPTION
 *   What happens for each line of a coroutine service where nothing is special, without a frame of Python but those of the
 *   handler: a line has come whole, somebody waits for it, and it is short enough.  Everything else is left to the
 *   methods of sockd.services.handlers.streams.StreamReader, of which LineSource is a base.
 *
 *   NextLine is what its __anext__() returns and its readline() awaits, and passes for a coroutine.  It looks at the lines when it is
 *   awaited, not before: one that nobody awaits has no effect.
 *
 *   LineWaiter is the future that NextLine gives to its task, and also the handle by which the loop wakes the task: so
 *   that a wait makes one object, and a wake-up one entry among the callbacks of the turn.  What a task asks of a future
 *   that is not asyncio's own is what asyncio.isfuture() describes; of a handle, a loop asks _cancelled and _run().
 */
#include "python.h"

#include <structmember.h>

#include <stddef.h>

static PyTypeObject *next_line_type, *line_waiter_type; /* one module in a process: cffi's */

static PyObject *import_from(const char *module, const char *name)
{
    PyObject *found = PyImport_ImportModule(module);
    PyObject *made = found == NULL ? NULL : PyObject_GetAttrString(found, name);
    Py_XDECREF(found);
    return made;
}

/* An object with the collector's head, of which all references are NULL. */
static PyObject *allocate(PyTypeObject *type)
{
    allocfunc make = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return make(type, 0);
}

/* ---- LineWaiter */

enum waiter_state { WAITER_WAITS, WAITER_DONE, WAITER_CANCELLED };

typedef struct sockd_line_waiter {
    PyObject_HEAD
    PyObject *loop, *call_soon; /* what appends to the callbacks of its turn */
    PyObject *callback, *context; /* of the task */
    PyObject *error;
    enum waiter_state state;
    char is_blocking;
} sockd_line_waiter;

static int waiter_traverse(PyObject *object, visitproc visit, void *arg)
{
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->loop);
    Py_VISIT(self->call_soon);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->error);
    return 0;
}

static int waiter_clear(PyObject *object)
{
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->call_soon);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->error);
    return 0;
}

static void waiter_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    waiter_clear(object);
    sockd_free(object);
}

/* Have the task woken, if it waits by now.  0, or -1. */
static int waiter_end(sockd_line_waiter *self, enum waiter_state state)
{
    self->state = state;
    if (self->callback == NULL)
        return 0;
    PyObject *listed = PyObject_CallFunctionObjArgs(self->call_soon, (PyObject *)self, NULL);
    Py_XDECREF(listed);
    return listed == NULL ? -1 : 0;
}

static PyObject *waiter_invalid(const char *message)
{
    PyObject *error = import_from("asyncio", "InvalidStateError");
    if (error != NULL)
        PyErr_SetString(error, message);
    Py_XDECREF(error);
    return NULL;
}

static PyObject *waiter_set_result(PyObject *object, PyObject *Py_UNUSED(result))
{
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    if (self->state != WAITER_WAITS)
        return waiter_invalid("invalid state");
    return waiter_end(self, WAITER_DONE) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *waiter_set_exception(PyObject *object, PyObject *error)
{
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    if (self->state != WAITER_WAITS)
        return waiter_invalid("invalid state");
    self->error = PyType_Check(error) ? PyObject_CallNoArgs(error) : Py_NewRef(error);
    if (self->error != NULL && !PyExceptionInstance_Check(self->error)) {
        PyErr_SetString(PyExc_TypeError, "not an exception");
        Py_CLEAR(self->error);
    }
    if (self->error == NULL)
        return NULL;
    return waiter_end(self, WAITER_DONE) < 0 ? NULL : Py_NewRef(Py_None);
}

/* cancel(msg=None) */
static PyObject *waiter_cancel(PyObject *object, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    if (self->state != WAITER_WAITS)
        return Py_NewRef(Py_False);
    PyObject *message = nargs == 1 || (names != NULL && PyTuple_Size(names) == 1) ? args[0] : Py_None;
    PyObject *type = import_from("asyncio", "CancelledError");
    if (type == NULL)
        return NULL;
    self->error = PyObject_CallFunctionObjArgs(type, message != Py_None ? message : NULL, NULL);
    Py_DECREF(type);
    if (self->error == NULL || waiter_end(self, WAITER_CANCELLED) < 0)
        return NULL;
    return Py_NewRef(Py_True);
}

static PyObject *waiter_done(PyObject *object, PyObject *Py_UNUSED(none))
{
    return PyBool_FromLong(((sockd_line_waiter *)object)->state != WAITER_WAITS);
}

static PyObject *waiter_cancelled(PyObject *object, PyObject *Py_UNUSED(none))
{
    return PyBool_FromLong(((sockd_line_waiter *)object)->state == WAITER_CANCELLED);
}

static PyObject *waiter_result(PyObject *object, PyObject *Py_UNUSED(none))
{
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    if (self->state == WAITER_WAITS)
        return waiter_invalid("Result is not set.");
    if (self->error == NULL)
        return Py_NewRef(Py_None);
    PyErr_SetObject((PyObject *)Py_TYPE(self->error), self->error);
    return NULL;
}

static PyObject *waiter_get_loop(PyObject *object, PyObject *Py_UNUSED(none))
{
    return Py_NewRef(((sockd_line_waiter *)object)->loop);
}

/* add_done_callback(function, *, context): of the one task that waits. */
static PyObject *waiter_add(PyObject *object, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    if (nargs != 1 || names == NULL || PyTuple_Size(names) != 1 || self->callback != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "one task waits for a line, in its context");
        return NULL;
    }
    self->callback = Py_NewRef(args[0]);
    self->context = Py_NewRef(args[1]);
    if (self->state != WAITER_WAITS && waiter_end(self, self->state) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}

/* Wake the task: as asyncio.Handle. */
static PyObject *waiter_run(PyObject *object, PyObject *Py_UNUSED(none))
{
    static PyObject *run;
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    PyObject *callback = self->callback, *context = self->context, *made = NULL;
    if (callback == NULL)
        return Py_NewRef(Py_None);
    self->callback = self->context = NULL;
    if (run != NULL || (run = PyUnicode_InternFromString("run")) != NULL)
        made = PyObject_CallMethodObjArgs(context, run, callback, object, NULL);
    if (made == NULL && !PyErr_ExceptionMatches(PyExc_SystemExit) && !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_WriteUnraisable(callback); /* a task has put everything else into its result */
        made = Py_NewRef(Py_None);
    }
    Py_DECREF(callback);
    Py_DECREF(context);
    return made;
}

static PyObject *waiter_is_handle_cancelled(PyObject *Py_UNUSED(object), void *Py_UNUSED(closure))
{
    return Py_NewRef(Py_False);
}

static PyMethodDef waiter_methods[] = {
    {"_run", waiter_run, METH_NOARGS, "Wake the task."},
    {"add_done_callback", (PyCFunction)(void (*)(void))waiter_add, METH_FASTCALL | METH_KEYWORDS,
     "Call back, once: add_done_callback(function, *, context)."},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_FASTCALL | METH_KEYWORDS,
     "Have the task get a CancelledError: cancel(msg=None). Return whether it was waiting."},
    {"cancelled", waiter_cancelled, METH_NOARGS, "Return whether cancel() was called in time."},
    {"done", waiter_done, METH_NOARGS, "Return whether nothing is waited for any more."},
    {"get_loop", waiter_get_loop, METH_NOARGS, "Return the loop of the task."},
    {"result", waiter_result, METH_NOARGS, "Return None, or raise what set_exception() or cancel() has set."},
    {"set_exception", waiter_set_exception, METH_O, "Have the task get this exception."},
    {"set_result", waiter_set_result, METH_O, "Wake the task, which looks itself."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef waiter_members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(sockd_line_waiter, is_blocking), 0, NULL},
    {"_callback", T_OBJECT, offsetof(sockd_line_waiter, callback), READONLY, NULL}, /* for asyncio's debug mode */
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef waiter_getset[] = {
    {"_cancelled", waiter_is_handle_cancelled, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot waiter_slots[] = {
    {Py_tp_doc, "The future of a coroutine that waits for a line, and the handle that wakes it."},
    {Py_tp_methods, waiter_methods},
    {Py_tp_members, waiter_members},
    {Py_tp_getset, waiter_getset},
    {Py_tp_traverse, (void *)waiter_traverse},
    {Py_tp_clear, (void *)waiter_clear},
    {Py_tp_dealloc, (void *)waiter_dealloc},
    {0, NULL},
};

static PyType_Spec waiter_spec = {
    .name = "sockd._sockbuf.LineWaiter",
    .basicsize = sizeof(sockd_line_waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = waiter_slots,
};

/* ---- LineSource */

typedef struct sockd_line_source {
    PyObject_HEAD
    PyObject *loop, *call_soon;
    PyObject *lines, *push, *pop; /* a deque, its append() and popleft() */
    PyObject *buffer;             /* a bytearray: what is not cut into lines yet */
    PyObject *waiter;             /* whoever waits, for a line or for something else; NULL or None: nobody does */
    Py_ssize_t limit;             /* of a line without its ending */
    int left;                     /* so many lines may be read before the clock is */
    char is_open, is_by_line, is_paused, has_overrun;
} sockd_line_source;

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

static int is_line(PyObject *block, Py_ssize_t limit)
{
    if (!PyBytes_CheckExact(block))
        return 0;
    sockd_bytes bytes = sockd_bytes_in(block);
    const char *end = bytes.size > 0 ? memchr(bytes.data, '\n', bytes.size) : NULL;
    return end != NULL && (size_t)(end - bytes.data) == bytes.size - 1 && (Py_ssize_t)bytes.size - 1 <= limit;
}

static PyObject *source_feed(PyObject *object, PyObject *block)
{
    sockd_line_source *self = (sockd_line_source *)object;
    PyObject *waiter = self->waiter;
    if (waiter == NULL || Py_TYPE(waiter) != line_waiter_type || !self->is_by_line || !has_no_bytes(self)
        || !is_line(block, self->limit))
        return PyObject_CallMethod(object, "_feed", "O", block);
    PyObject *listed = PyObject_CallFunctionObjArgs(self->push, block, NULL); /* and not counted: it is read first */
    Py_XDECREF(listed);
    if (listed == NULL)
        return NULL;
    self->waiter = NULL;
    int code = 0;
    if (((sockd_line_waiter *)waiter)->state == WAITER_WAITS) /* it was not cancelled */
        code = waiter_end((sockd_line_waiter *)waiter, WAITER_DONE);
    Py_DECREF(waiter);
    return code < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- NextLine */

enum next_state { NEXT_NEW, NEXT_WAITS, NEXT_RESTS, NEXT_ENDED };

typedef struct sockd_next_line {
    PyObject_HEAD
    sockd_line_source *source;
    PyObject *rest; /* the coroutine that does what is special */
    enum next_state state;
    char is_iteration; /* the end of file is StopAsyncIteration */
} sockd_next_line;

static int next_traverse(PyObject *object, visitproc visit, void *arg)
{
    sockd_next_line *self = (sockd_next_line *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->source);
    Py_VISIT(self->rest);
    return 0;
}

static int next_clear(PyObject *object)
{
    sockd_next_line *self = (sockd_next_line *)object;
    Py_CLEAR(self->source);
    Py_CLEAR(self->rest);
    self->state = NEXT_ENDED;
    return 0;
}

static void next_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    next_clear(object);
    sockd_free(object);
}

static PyObject *next_of(PyObject *source, int is_iteration)
{
    sockd_next_line *made = (sockd_next_line *)allocate(next_line_type);
    if (made == NULL)
        return NULL;
    made->source = (sockd_line_source *)Py_NewRef(source);
    made->is_iteration = (char)is_iteration;
    return (PyObject *)made;
}

static PyObject *source_line(PyObject *object, PyObject *Py_UNUSED(none))
{
    return next_of(object, 0);
}

static PyObject *source_anext(PyObject *object)
{
    return next_of(object, 1);
}

/* The line that may be read now: a new reference.  NULL: there is none, or an exception. */
static PyObject *pop_line(sockd_line_source *source, int was_woken)
{
    if (source->lines == NULL || PyObject_Size(source->lines) <= 0)
        return NULL;
    if (was_woken ? source->is_paused : source->left <= 0)
        return NULL;
    source->left -= !was_woken;
    return PyObject_CallFunctionObjArgs(source->pop, NULL);
}

/* Whether nothing has come, and nobody else waits for it. */
static int may_wait(const sockd_line_source *source)
{
    return (source->waiter == NULL || source->waiter == Py_None) && source->is_open && source->lines != NULL && PyObject_Size(source->lines) == 0
        && has_no_bytes(source);
}

static PyObject *begin_to_wait(sockd_line_source *source)
{
    sockd_line_waiter *waiter = (sockd_line_waiter *)allocate(line_waiter_type);
    if (waiter == NULL)
        return NULL;
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

static PySendResult next_send(PyObject *object, PyObject *value, PyObject **result)
{
    sockd_next_line *self = (sockd_next_line *)object;
    *result = NULL;
    if (self->state == NEXT_ENDED) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (self->state != NEXT_RESTS) {
        if ((*result = pop_line(self->source, self->state == NEXT_WAITS)) != NULL) {
            self->state = NEXT_ENDED;
            return PYGEN_RETURN;
        }
        if (!PyErr_Occurred() && self->state == NEXT_NEW && may_wait(self->source)) {
            self->state = NEXT_WAITS;
            *result = begin_to_wait(self->source);
            return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
        }
        if (!PyErr_Occurred())
            self->rest = PyObject_CallMethod((PyObject *)self->source, "_next_line", NULL);
        if (self->rest == NULL)
            return PYGEN_ERROR;
        self->state = NEXT_RESTS;
        value = Py_None;
    }
    return rest_gave(self, PyIter_Send(self->rest, value, result), result);
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

/* Stop waiting.  0, or -1. */
static int give_up(sockd_next_line *self)
{
    int was_waiting = self->state == NEXT_WAITS;
    self->state = NEXT_ENDED;
    PyObject *done = was_waiting ? PyObject_CallMethod((PyObject *)self->source, "_give_up", NULL) : Py_NewRef(Py_None);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* throw(exception), or throw(type, value, traceback) as before Python 3.12 */
static PyObject *next_throw(PyObject *object, PyObject *args)
{
    sockd_next_line *self = (sockd_next_line *)object;
    PyObject *type, *value = NULL, *trace = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &trace))
        return NULL;
    if (self->state == NEXT_RESTS) {
        PyObject *throw = PyObject_GetAttrString(self->rest, "throw");
        PyObject *given = throw == NULL ? NULL : PyObject_CallObject(throw, args);
        Py_XDECREF(throw);
        if (given == NULL) {
            self->state = NEXT_ENDED;
            Py_CLEAR(self->rest);
        }
        return given;
    }
    if (give_up(self) < 0)
        return NULL;
    if (!PyType_Check(type)) {
        value = type;
        type = (PyObject *)Py_TYPE(type);
    }
    PyErr_Restore(Py_NewRef(type), value != Py_None ? Py_XNewRef(value) : NULL, trace != Py_None ? Py_XNewRef(trace) : NULL);
    return NULL;
}

static PyObject *next_close(PyObject *object, PyObject *Py_UNUSED(none))
{
    sockd_next_line *self = (sockd_next_line *)object;
    if (self->state != NEXT_RESTS)
        return give_up(self) < 0 ? NULL : Py_NewRef(Py_None);
    self->state = NEXT_ENDED;
    PyObject *closed = PyObject_CallMethod(self->rest, "close", NULL);
    Py_CLEAR(self->rest);
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

static PyType_Spec next_spec = {
    .name = "sockd._sockbuf.NextLine",
    .basicsize = sizeof(sockd_next_line),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = next_slots,
};

/* ---- the type LineSource */

static PyObject *source_use(PyObject *object, PyObject *args)
{
    sockd_line_source *self = (sockd_line_source *)object;
    PyObject *lines, *call_soon;
    if (!PyArg_UnpackTuple(args, "_use", 2, 2, &lines, &call_soon))
        return NULL;
    PyObject *push = PyObject_GetAttrString(lines, "append"), *pop = PyObject_GetAttrString(lines, "popleft");
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
    {"feed", source_feed, METH_O, "Take what has come."},
    {"_line", source_line, METH_NOARGS, "Return what gives the next line when it is awaited, b\"\" at the end of file."},
    {"_use", source_use, METH_VARARGS, "Set the queue of lines, and what appends to the callbacks of the loop's turn."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef source_members[] = {
    {"_loop", T_OBJECT, offsetof(sockd_line_source, loop), 0, NULL},
    {"_lines", T_OBJECT, offsetof(sockd_line_source, lines), READONLY, NULL},
    {"_buffer", T_OBJECT, offsetof(sockd_line_source, buffer), 0, NULL},
    {"_waiter", T_OBJECT, offsetof(sockd_line_source, waiter), 0, NULL},
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

static PyType_Spec source_spec = {
    .name = "sockd._sockbuf.LineSource",
    .basicsize = sizeof(sockd_line_source),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = source_slots,
};

int sockd_add_awaited(PyObject *module)
{
    next_line_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &next_spec, NULL);
    line_waiter_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &waiter_spec, NULL);
    PyObject *source_type = PyType_FromModuleAndSpec(module, &source_spec, NULL);
    int is_added = next_line_type != NULL && line_waiter_type != NULL && source_type != NULL
                && PyModule_AddObjectRef(module, "NextLine", (PyObject *)next_line_type) == 0
                && PyModule_AddObjectRef(module, "LineWaiter", (PyObject *)line_waiter_type) == 0
                && PyModule_AddObjectRef(module, "LineSource", source_type) == 0;
    Py_XDECREF(source_type);
    return is_added ? 0 : -1;
}
