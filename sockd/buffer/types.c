/* SPDX-License-Identifier: MIT */
/*
 * types - the types that the module sockd._sockbuf has beside cffi's ffi and lib
 *
 * DESCRIPTION
 *   The module is made by cffi; what is written by hand is added to it at the first import.
 *
 *   Compiled into sockd._sockbuf by csrc/sockbuf_build.py, which reads the
 *   declarations between the marks.
 */

/* <cffi> from here to </cffi> the Python extension reads these declarations */

/* Add the types FrameCutter, FrameEncoder, DatagramCalls and FrameExchange to the module sockd._sockbuf.
 * Returns 0, or -1. */
int sockd_add_types(void);

/* Likewise LineSource, NextLine, LineWaiter and LineDelivery, for coroutines. */
int sockd_add_line_types(void);

/* </cffi> */

#include "awaited.h"

PyTypeObject *sockd_next_line_type, *sockd_line_waiter_type;

/* kept: a place for a reference of ours, or NULL. */
static int add_type(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **kept)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int code = type == NULL ? -1 : PyModule_AddObjectRef(module, name, type);
    if (kept != NULL)
        *kept = (PyTypeObject *)type;
    else
        Py_XDECREF(type);
    return code;
}

static int add_frame_types(PyObject *module)
{
    return add_type(module, &sockd_cutter_spec, "FrameCutter", NULL) == 0
                   && add_type(module, &sockd_encoder_spec, "FrameEncoder", NULL) == 0
                   && add_type(module, &sockd_calls_spec, "DatagramCalls", NULL) == 0
                   && add_type(module, &sockd_exchange_spec, "FrameExchange", NULL) == 0
               ? 0
               : -1;
}

static int add_line_types(PyObject *module)
{
    return add_type(module, &sockd_next_line_spec, "NextLine", &sockd_next_line_type) == 0
                   && add_type(module, &sockd_line_waiter_spec, "LineWaiter", &sockd_line_waiter_type) == 0
                   && add_type(module, &sockd_line_source_spec, "LineSource", NULL) == 0
                   && add_type(module, &sockd_line_delivery_spec, "LineDelivery", NULL) == 0
               ? 0
               : -1;
}

static int add_to_module(int (*add)(PyObject *module))
{
    PyGILState_STATE state = PyGILState_Ensure(); /* cffi releases it for a call */
    PyObject *module = PyImport_AddModule("sockd._sockbuf");
    int code = module == NULL ? -1 : add(module);
    if (code < 0)
        PyErr_Print();
    PyGILState_Release(state);
    return code;
}

int sockd_add_types(void)
{
    return add_to_module(add_frame_types);
}

int sockd_add_line_types(void)
{
    return add_to_module(add_line_types);
}
