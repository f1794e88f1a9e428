/* SPDX-License-Identifier: MIT */
/*
 * line_waiter - the type LineWaiter: the future of a task that waits for a line, and the handle by which the loop wakes it
 *
 * DESCRIPTION
 *   So a wait makes one object, and a wake-up one entry among the callbacks of the turn.  What a task asks of a future
 *   that is not asyncio's own is what asyncio.isfuture() describes; of a handle, a loop asks _cancelled and _run().
 */
#include "awaited.h"

static PyObject *import_from(const char *module, const char *name)
{
    PyObject *found = PyImport_ImportModule(module);
    PyObject *made = found == NULL ? NULL : PyObject_GetAttrString(found, name);
    Py_XDECREF(found);
    return made;
}

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
int sockd_waiter_end(sockd_line_waiter *self, enum waiter_state state)
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
    return sockd_waiter_end(self, WAITER_DONE) < 0 ? NULL : Py_NewRef(Py_None);
}

/* End by an exception, a reference that is kept or released.  1; 0: whoever made it has ended the wait by then; -1. */
static int end_by(sockd_line_waiter *self, PyObject *error, enum waiter_state state)
{
    if (error == NULL)
        return -1;
    if (!PyExceptionInstance_Check(error) || self->state != WAITER_WAITS) {
        int code = PyExceptionInstance_Check(error) ? 0 : -1;
        if (code < 0)
            PyErr_SetString(PyExc_TypeError, "not an exception");
        Py_DECREF(error);
        return code;
    }
    self->error = error;
    return sockd_waiter_end(self, state) < 0 ? -1 : 1;
}

static PyObject *waiter_set_exception(PyObject *object, PyObject *error)
{
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    if (self->state != WAITER_WAITS)
        return waiter_invalid("invalid state");
    int code = end_by(self, PyType_Check(error) ? PyObject_CallNoArgs(error) : Py_NewRef(error), WAITER_DONE);
    if (code == 0)
        return waiter_invalid("invalid state");
    return code < 0 ? NULL : Py_NewRef(Py_None);
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
    int code = end_by(self, PyObject_CallFunctionObjArgs(type, message != Py_None ? message : NULL, NULL), WAITER_CANCELLED);
    Py_DECREF(type);
    return code < 0 ? NULL : PyBool_FromLong(code);
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
    PyObject *loop = ((sockd_line_waiter *)object)->loop;
    return Py_NewRef(loop != NULL ? loop : Py_None); /* the collector has cleared it */
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
    if (self->state != WAITER_WAITS && sockd_waiter_end(self, self->state) < 0)
        return NULL;
    return Py_NewRef(Py_None);
}

/* Wake the task, once: as asyncio.Handle.  The callback stays: in debug mode asyncio names a slow task by it afterwards. */
static PyObject *waiter_run(PyObject *object, PyObject *Py_UNUSED(none))
{
    static PyObject *run;
    sockd_line_waiter *self = (sockd_line_waiter *)object;
    PyObject *callback = Py_XNewRef(self->callback), *context = self->context, *made = NULL;
    self->context = NULL;
    if (callback == NULL || context == NULL) {
        Py_XDECREF(callback);
        Py_XDECREF(context);
        return Py_NewRef(Py_None);
    }
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
    {"_callback", T_OBJECT, offsetof(sockd_line_waiter, callback), READONLY, NULL},
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

PyType_Spec sockd_line_waiter_spec = {
    .name = "sockd._sockbuf.LineWaiter",
    .basicsize = sizeof(sockd_line_waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = waiter_slots,
};
