/* SPDX-License-Identifier: MIT */
/*
 * calls - the type DatagramCalls: the two calls of a turn, from datagrams to bytes objects and back
 *
 * DESCRIPTION
 *   A table of datagrams is made, asked and freed through cffi; what each turn does goes the short way.
 *   sockd.net.udp.table.DatagramTable is made of it, and owns the table.
 */

#include "python.h"

#include <errno.h>

#include "sockmux.h"

enum { MOST_ANSWERS = 64 };

typedef struct sockd_calls {
    PyObject_HEAD
    sb_datagrams *table;
} sockd_calls;

/* A list of bytes: 0, or -1. */
static int add_bytes(PyObject *list, Py_ssize_t at, const char *data, size_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    return bytes == NULL ? -1 : PyList_SetItem(list, at, bytes);
}

static PyObject *list_received(const sb_datagrams *table, int count, int with_senders)
{
    PyObject *list = PyList_New(with_senders ? 3 * count : count);
    sb_datagram one;
    for (int i = 0; list != NULL && i < count; i++) {
        if (sb_datagrams_get(table, (size_t)i, &one) < 0 || add_bytes(list, i, one.data, one.size) < 0
            || (with_senders && (add_bytes(list, count + i, one.name, one.name_size) < 0
                                 || add_bytes(list, 2 * count + i, one.control, one.control_size) < 0)))
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *calls_receive(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    sb_datagrams *table = ((sockd_calls *)object)->table;
    if (count != 3 || table == NULL) {
        PyErr_SetString(PyExc_TypeError, "expected a descriptor, a number and whether senders are wanted");
        return NULL;
    }
    long fd = PyLong_AsLong(arguments[0]), wanted = PyLong_AsLong(arguments[1]);
    int with_senders = PyObject_IsTrue(arguments[2]), received, error;
    if (PyErr_Occurred())
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    received = sb_datagrams_receive(table, (int)fd, wanted > 0 ? (size_t)wanted : 0);
    error = errno;
    Py_END_ALLOW_THREADS
    if (received > 0 || received == SB_ERR_AGAIN) /* an exception costs more than the call */
        return list_received(table, received > 0 ? received : 0, with_senders);
    errno = received == SB_ERR_INVALID ? EINVAL : error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* The answers as the core wants them: 0, or -1: they are not what they should be. */
static int read_answers(PyObject *places, PyObject *replies, Py_ssize_t count, uint32_t *indexes, sb_piece *answers)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *reply = PyList_GetItem(replies, i);
        unsigned long place = PyLong_AsUnsignedLong(PyList_GetItem(places, i));
        if (PyErr_Occurred())
            return -1;
        if (!PyBytes_Check(reply)) {
            PyErr_SetString(PyExc_TypeError, "a reply is not bytes");
            return -1;
        }
        sockd_bytes bytes = sockd_bytes_in(reply);
        indexes[i] = place > UINT32_MAX ? UINT32_MAX : (uint32_t)place;
        answers[i] = (sb_piece){.data = bytes.data, .size = bytes.size};
    }
    return 0;
}

static PyObject *list_failures(const int32_t *errors, Py_ssize_t count)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        if (errors[i] == 0)
            continue;
        PyObject *pair = Py_BuildValue("ni", i, (int)errors[i]);
        if (pair == NULL || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

static PyObject *calls_answer(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    sb_datagrams *table = ((sockd_calls *)object)->table;
    uint32_t indexes[MOST_ANSWERS];
    sb_piece answers[MOST_ANSWERS];
    int32_t errors[MOST_ANSWERS];
    int sent;
    if (count != 3 || table == NULL || !PyList_Check(arguments[1]) || !PyList_Check(arguments[2])) {
        PyErr_SetString(PyExc_TypeError, "expected a descriptor, a list of places and a list of replies");
        return NULL;
    }
    long fd = PyLong_AsLong(arguments[0]);
    Py_ssize_t n = PyList_Size(arguments[1]);
    if (PyErr_Occurred())
        return NULL;
    if (n > MOST_ANSWERS || n != PyList_Size(arguments[2])) {
        PyErr_SetString(PyExc_ValueError, "too many replies, or not one for each place");
        return NULL;
    }
    if (read_answers(arguments[1], arguments[2], n, indexes, answers) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS /* the lists are the caller's, which waits */
    sent = sb_datagrams_send(table, (int)fd, indexes, answers, (size_t)n, errors);
    Py_END_ALLOW_THREADS
    if (sent < 0) {
        PyErr_SetString(PyExc_ValueError, "a place that has no datagram");
        return NULL;
    }
    return list_failures(errors, n);
}

static PyObject *calls_use(PyObject *object, PyObject *address)
{
    void *table = PyLong_AsVoidPtr(address);
    if (table == NULL && PyErr_Occurred())
        return NULL;
    ((sockd_calls *)object)->table = table;
    return Py_NewRef(Py_None);
}

static PyMethodDef calls_methods[] = {
    {"_receive", (PyCFunction)(void (*)(void))calls_receive, METH_FASTCALL,
     "Receive into the table; return the payloads, and with senders their names and the control data.\n\n"
     "Raises:\n    OSError: the socket has an error."},
    {"_answer", (PyCFunction)(void (*)(void))calls_answer, METH_FASTCALL,
     "Send replies to datagrams of the table; return the index and the errno of each that was not sent."},
    {"_use", calls_use, METH_O, "Use the sb_datagrams at an address, which has to outlive this object."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot calls_slots[] = {
    {Py_tp_doc, "Receives and answers datagrams; sockd.net.udp.table.DatagramTable is made of it."},
    {Py_tp_methods, calls_methods},
    {Py_tp_dealloc, (void *)sockd_free},
    {0, NULL},
};

PyType_Spec sockd_calls_spec = {
    .name = "sockd._sockbuf.DatagramCalls",
    .basicsize = sizeof(sockd_calls),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = calls_slots,
};
