/* SPDX-License-Identifier: MIT */
/*
 * line_delivery - the type LineDelivery: what the connections of a service have received, to their sources
 */
#include "awaited.h"
#include "sockmux.h"

typedef struct sockd_line_delivery {
    PyObject_HEAD
    sb_mux *mux;
    PyObject *sources;   /* a dict, by the number of the connection */
    PyObject *otherwise; /* called with what is for none of them */
} sockd_line_delivery;

static int delivery_traverse(PyObject *object, visitproc visit, void *arg)
{
    sockd_line_delivery *self = (sockd_line_delivery *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->sources);
    Py_VISIT(self->otherwise);
    return 0;
}

static int delivery_clear(PyObject *object)
{
    sockd_line_delivery *self = (sockd_line_delivery *)object;
    Py_CLEAR(self->sources);
    Py_CLEAR(self->otherwise);
    return 0;
}

static void delivery_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    delivery_clear(object);
    sockd_free(object);
}

static PyObject *delivery_frames(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    sockd_line_delivery *self = (sockd_line_delivery *)object;
    if (nargs != 6 || self->sources == NULL) {
        PyErr_SetString(PyExc_TypeError, "wrong number of arguments, or before _use()");
        return NULL;
    }
    PyObject *source = PyDict_GetItemWithError(self->sources, args[1]);
    if (source == NULL)
        return PyErr_Occurred() ? NULL
                                : PyObject_CallFunctionObjArgs(self->otherwise, args[0], args[1], args[2], args[3], args[4],
                                                               args[5], NULL);
    long long offset = PyLong_AsLongLong(args[3]), size = PyLong_AsLongLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    const char *data = offset >= 0 ? sb_mux_arena(self->mux) + offset : sb_mux_held(self->mux, -1 - offset);
    PyObject *block = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    if (block == NULL)
        return NULL;
    Py_INCREF(source);
    PyObject *fed = sockd_source_feed(source, block);
    Py_DECREF(source);
    Py_DECREF(block);
    return fed;
}

static PyObject *delivery_use(PyObject *object, PyObject *args)
{
    sockd_line_delivery *self = (sockd_line_delivery *)object;
    PyObject *address, *sources, *otherwise;
    if (!PyArg_UnpackTuple(args, "_use", 3, 3, &address, &sources, &otherwise))
        return NULL;
    sb_mux *mux = PyLong_AsVoidPtr(address);
    if (mux == NULL || !PyDict_Check(sources) || self->sources != NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "once: an address, a dict, a function");
        return NULL;
    }
    self->mux = mux;
    self->sources = Py_NewRef(sources);
    self->otherwise = Py_NewRef(otherwise);
    return Py_NewRef(Py_None);
}

static PyMethodDef delivery_methods[] = {
    {"frames", (PyCFunction)(void (*)(void))delivery_frames, METH_FASTCALL,
     "Feed the source of the connection: as ConnectionEvents.frames()."},
    {"_use", delivery_use, METH_VARARGS,
     "Set the address of the sb_mux, the sources by connection (only of LineSource), and what is called for others."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot delivery_slots[] = {
    {Py_tp_doc, "Takes what was received to the sources of lines."},
    {Py_tp_methods, delivery_methods},
    {Py_tp_traverse, (void *)delivery_traverse},
    {Py_tp_clear, (void *)delivery_clear},
    {Py_tp_dealloc, (void *)delivery_dealloc},
    {0, NULL},
};

PyType_Spec sockd_line_delivery_spec = {
    .name = "sockd._sockbuf.LineDelivery",
    .basicsize = sizeof(sockd_line_delivery),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = delivery_slots,
};
