/* SPDX-License-Identifier: MIT */
/*
 * python.h - what the C files of the extension that speak to Python have in common
 *
 *   cffi calls functions of C, at about 150 ns each and with nothing but numbers and
 *   memory; a type of Python's costs 40, and makes bytes objects itself.  It is written
 *   against the stable ABI of CPython 3.11 (Py_LIMITED_API, csrc/sockbuf_build.py), or
 *   against the ABI of one version where there is no global lock.
 */
#ifndef SOCKD_PYTHON_H
#define SOCKD_PYTHON_H

#include <Python.h>

#include <string.h>

#include "frame.h"

/* What the types of the module are made from. */
extern PyType_Spec sockd_cutter_spec, sockd_encoder_spec, sockd_calls_spec, sockd_exchange_spec;

/* Whether this process is one that a handler has forked: its code may not return (sockd/process/forked.py). */
extern int sockd_is_copy;

/* What a function of others has returned: a new reference, which is taken.  NULL, with SystemExit, in such a process. */
static inline PyObject *sockd_returned(PyObject *object)
{
    if (!sockd_is_copy || object == NULL)
        return object;
    Py_DECREF(object);
    PyErr_SetNone(PyExc_SystemExit);
    return NULL;
}

/* An object belongs to one thread at a time.  Where a program forgets it, and there is
 * no global lock, this makes the object wrong rather than its memory (PEP 703). */
#ifdef Py_GIL_DISABLED
#define SOCKD_BEGIN_LOCKED(object) Py_BEGIN_CRITICAL_SECTION(object);
#define SOCKD_END_LOCKED Py_END_CRITICAL_SECTION();
#define SOCKD_BEGIN_BOTH_LOCKED(object, other) Py_BEGIN_CRITICAL_SECTION2(object, other);
#define SOCKD_END_BOTH_LOCKED Py_END_CRITICAL_SECTION2();
#else
#define SOCKD_BEGIN_LOCKED(object) {
#define SOCKD_END_LOCKED }
#define SOCKD_BEGIN_BOTH_LOCKED(object, other) {
#define SOCKD_END_BOTH_LOCKED }
#endif

/* The method of a type, METH_NOARGS or METH_O, made of one that needs the lock. */
#define SOCKD_METHOD(name) \
    static PyObject *name##_locked(PyObject *object, PyObject *argument) \
    { \
        PyObject *made; \
        SOCKD_BEGIN_LOCKED(object) \
        made = name(object, argument); \
        SOCKD_END_LOCKED \
        return made; \
    }

/* Bytes of a bytes object; as PyBytes_AsString, which may not fail here. */
typedef struct sockd_bytes {
    const char *data;
    size_t size;
} sockd_bytes;

static inline sockd_bytes sockd_bytes_in(PyObject *bytes)
{
    return (sockd_bytes){PyBytes_AsString(bytes), (size_t)PyBytes_Size(bytes)};
}

/* The bytes of what is bytes-like, as an object that cannot change: a new reference.
 * NULL: it is not (TypeError), or there is no memory. */
static inline PyObject *sockd_as_bytes(PyObject *data)
{
    if (PyBytes_CheckExact(data)) {
        Py_INCREF(data);
        return data;
    }
    if (PyObject_CheckBuffer(data))
        return PyBytes_FromObject(data);
    PyObject *view = PyMemoryView_FromObject(data); /* raises what Python says of such a value */
    Py_XDECREF(view);
    return NULL;
}

/* Copy a sb_framing out of the bytes object that is one.  0, or -1: it is none (TypeError). */
static inline int sockd_read_framing(PyObject *bytes, sb_framing *framing)
{
    if (!PyBytes_Check(bytes) || PyBytes_Size(bytes) != (Py_ssize_t)sizeof *framing) {
        PyErr_SetString(PyExc_TypeError, "not the bytes of a sb_framing");
        return -1;
    }
    memcpy(framing, PyBytes_AsString(bytes), sizeof *framing);
    return 0;
}

/* The payload of a dot block without its stuffing. */
static inline PyObject *sockd_unstuffed(const char *data, Py_ssize_t size)
{
    PyObject *room = PyByteArray_FromStringAndSize(NULL, size); /* the stable ABI cannot shorten a bytes object */
    if (room == NULL)
        return NULL;
    char *block = PyByteArray_AsString(room);
    PyObject *made = PyBytes_FromStringAndSize(block, (Py_ssize_t)sb_dot_unstuff(data, (size_t)size, block));
    Py_DECREF(room);
    return made;
}

/* The exception that is set, as a value with its traceback: a new reference. */
static inline PyObject *sockd_error(void)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL)
        PyException_SetTraceback(error, trace);
    Py_XDECREF(trace);
    Py_XDECREF(type);
    return error;
}

/* What asks an iterator for its next object. Called itself, it leaves a StopIteration of the function that map() calls,
 * and its traceback; PyIter_Next() takes it for the end. */
static inline iternextfunc sockd_next(PyObject *iterator)
{
    return (iternextfunc)PyType_GetSlot(Py_TYPE(iterator), Py_tp_iternext);
}

/* Free an object of a type that has been made from a spec. */
static inline void sockd_free(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

#endif
