/* SPDX-License-Identifier: MIT */
/*
 * line_source - the type LineSource: lines that have come, and who waits for them
 */
#include "awaited.h"

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

PyObject *sockd_source_feed(PyObject *object, PyObject *block)
{
    sockd_line_source *self = (sockd_line_source *)object;
    PyObject *waiter = self->waiter;
    if (waiter == NULL || Py_TYPE(waiter) != sockd_line_waiter_type || !self->is_by_line || !has_no_bytes(self)
        || !is_line(block, self->limit))
        return PyObject_CallMethod(object, "_feed", "(O)", block);
    PyObject *listed = PyObject_CallFunctionObjArgs(self->push, block, NULL); /* and not counted: it is read first */
    Py_XDECREF(listed);
    if (listed == NULL)
        return NULL;
    self->waiter = NULL;
    int code = 0;
    if (((sockd_line_waiter *)waiter)->state == WAITER_WAITS) /* it was not cancelled */
        code = sockd_waiter_end((sockd_line_waiter *)waiter, WAITER_DONE);
    Py_DECREF(waiter);
    return code < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *sockd_source_pop(sockd_line_source *source, int was_woken)
{
    if (source->lines == NULL || PyObject_Size(source->lines) <= 0)
        return NULL;
    if (source->is_paused || (!was_woken && source->left <= 0)) /* each is counted, or it is time to read the clock */
        return NULL;
    source->left -= !was_woken;
    return PyObject_CallFunctionObjArgs(source->pop, NULL);
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

PyType_Spec sockd_line_source_spec = {
    .name = "sockd._sockbuf.LineSource",
    .basicsize = sizeof(sockd_line_source),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = source_slots,
};
