/* SPDX-License-Identifier: MIT */
/*
 * types - the types that the module sockd._sockbuf has beside cffi's ffi and lib
 *
 * DESCRIPTION
 *   The module is made by cffi; what is written by hand is added while it is imported, in the interpreter that imports it.
 *   A function that cffi calls cannot do that: the lock has been released, and PyGILState_Ensure() gets it for the main
 *   interpreter.
 */
#include "awaited.h"

PyTypeObject *sockd_next_line_type, *sockd_line_waiter_type;
int sockd_is_copy;

/* 0, or -1: an exception.  *kept: the type; it is made once in a process. */
static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **kept)
{
    if (*kept == NULL)
        *kept = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    const char *name = strrchr(spec->name, '.') + 1;
    return *kept == NULL ? -1 : PyModule_AddObjectRef(module, name, (PyObject *)*kept);
}

static int add_frame_types(PyObject *module)
{
    static PyTypeObject *cutter, *encoder, *calls, *exchange;
    return add_type(module, &sockd_cutter_spec, &cutter) == 0 && add_type(module, &sockd_encoder_spec, &encoder) == 0
                   && add_type(module, &sockd_calls_spec, &calls) == 0 && add_type(module, &sockd_exchange_spec, &exchange) == 0
               ? 0
               : -1;
}

/* An interpreter that shares the module has a copy of it, which this one is not bound to. */
static PyObject *add_line_types(PyObject *Py_UNUSED(self), PyObject *module)
{
    static PyTypeObject *source, *delivery;
    return add_type(module, &sockd_next_line_spec, &sockd_next_line_type) == 0
                   && add_type(module, &sockd_line_waiter_spec, &sockd_line_waiter_type) == 0
                   && add_type(module, &sockd_line_source_spec, &source) == 0
                   && add_type(module, &sockd_line_delivery_spec, &delivery) == 0
               ? Py_NewRef(Py_None)
               : NULL;
}

static PyObject *set_copy(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(nothing))
{
    sockd_is_copy = 1;
    return Py_NewRef(Py_None);
}

static PyMethodDef type_functions[] = {
    {"add_line_types", add_line_types, METH_O,
     "Add LineSource, NextLine, LineWaiter and LineDelivery to this module, for coroutines: add_line_types(module)."},
    {"set_copy", set_copy, METH_NOARGS, "Say that this process is one that a handler has forked: see python.h."},
    {NULL, NULL, 0, NULL},
};

PyMODINIT_FUNC PyInit__sockbuf(void);
PyMODINIT_FUNC sockd_make_module(void);

PyMODINIT_FUNC PyInit__sockbuf(void)
{
    PyObject *module = sockd_make_module();
    if (module != NULL && (add_frame_types(module) < 0 || PyModule_AddFunctions(module, type_functions) < 0))
        Py_CLEAR(module);
    return module;
}

#define PyInit__sockbuf sockd_make_module /* what cffi writes behind this */
