/* SPDX-License-Identifier: MIT */
/*
 * batch - datagrams received in one call as bytes objects, and their answers, sent in another
 *
 * DESCRIPTION
 *   The object of the type DatagramCalls (calls.c): the C core's table, and what Python has of it.  An answer belongs to
 *   a place of the table, and so waits no longer than until the next batch is received.
 */
#ifndef SOCKD_BATCH_H
#define SOCKD_BATCH_H

#include "python.h"

#include <errno.h>

#include "sockmux.h"

enum {
    MOST_ANSWERS = 64, /* and datagrams of a batch */
    NAME_BYTES = 128   /* a struct sockaddr_un has 110 */
};

typedef struct sockd_calls {
    PyObject_HEAD
    sb_datagrams *table;
    PyObject *payloads, *names, *controls; /* lists, of the batch; the last two are empty where nobody wants them */
    Py_ssize_t next;                       /* the first that is not handled */
    Py_ssize_t plain;                      /* how many are whole and of admitted senders, counted from the first one */
    Py_ssize_t generation;                 /* how many batches there were */
    Py_ssize_t stops;                      /* no further batch is wanted */
    Py_ssize_t waiting;                    /* answers */
    uint32_t places[MOST_ANSWERS];
    PyObject *answers[MOST_ANSWERS];
} sockd_calls;

/* ---- received */

/* A list of bytes: 0, or -1. */
static int add_bytes(PyObject *list, Py_ssize_t at, const char *data, size_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    return bytes == NULL ? -1 : PyList_SetItem(list, at, bytes);
}

static void replace(PyObject **place, PyObject *object)
{
    PyObject *before = *place;
    *place = object;
    Py_XDECREF(before);
}

/* Put lists in the place of those of the batch before.  0, or -1. */
static int list_received(sockd_calls *self, int count, int with_senders)
{
    int senders = with_senders ? count : 0;
    PyObject *payloads = PyList_New(count), *names = PyList_New(senders), *controls = PyList_New(senders);
    int code = payloads == NULL || names == NULL || controls == NULL ? -1 : 0;
    sb_datagram one;
    for (int i = 0; i < count && code == 0; i++) {
        code = sb_datagrams_get(self->table, (size_t)i, &one) < 0 ? -1 : add_bytes(payloads, i, one.data, one.size);
        if (code == 0 && with_senders
            && (add_bytes(names, i, one.name, one.name_size) < 0 || add_bytes(controls, i, one.control, one.control_size) < 0))
            code = -1;
    }
    if (code < 0) {
        Py_XDECREF(payloads);
        Py_XDECREF(names);
        Py_XDECREF(controls);
        return -1;
    }
    replace(&self->payloads, payloads);
    replace(&self->names, names);
    replace(&self->controls, controls);
    return 0;
}

/* Receive a batch.  How many; 0: none, and *error is the socket's, if it has one; -1: an exception of ours. */
static int receive_batch(sockd_calls *self, int fd, Py_ssize_t wanted, int with_senders, int *error)
{
    int received;
    self->next = self->plain = 0;
    self->generation++;
    Py_BEGIN_ALLOW_THREADS
    received = sb_datagrams_receive(self->table, fd, wanted > 0 ? (size_t)wanted : 0);
    *error = errno;
    Py_END_ALLOW_THREADS
    if (received == SB_ERR_INVALID)
        *error = EINVAL;
    else if (received > 0 || received == SB_ERR_AGAIN)
        *error = 0;
    if (list_received(self, received > 0 ? received : 0, with_senders) < 0) {
        self->next = PyList_Size(self->payloads); /* those before are handled, and their places are of others now */
        return -1;
    }
    self->plain = (Py_ssize_t)sb_datagrams_plain(self->table);
    return received > 0 ? received : 0;
}

/* ---- answers */

static void forget_answers(sockd_calls *self)
{
    while (self->waiting > 0)
        Py_DECREF(self->answers[--self->waiting]);
}

/* Have an answer wait.  0, or -1: there is no room, or no such datagram. */
static int keep_answer(sockd_calls *self, Py_ssize_t place, PyObject *bytes)
{
    if (self->waiting >= MOST_ANSWERS || place < 0 || place >= PyList_Size(self->payloads))
        return -1;
    self->places[self->waiting] = (uint32_t)place;
    self->answers[self->waiting++] = Py_NewRef(bytes);
    return 0;
}

/* The place, the size and the errno of each that was not sent. */
static PyObject *list_failures(const sockd_calls *self, const int32_t *errors)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < self->waiting; i++) {
        if (errors[i] == 0)
            continue;
        PyObject *row = Py_BuildValue("nni", (Py_ssize_t)self->places[i], PyBytes_Size(self->answers[i]), (int)errors[i]);
        if (row == NULL || PyList_Append(list, row) < 0)
            Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
}

/* Send what waits, and forget it.  How many were sent; the others are in *failed, else NULL; -1: an exception of ours. */
static Py_ssize_t send_answers(sockd_calls *self, int fd, PyObject **failed)
{
    sb_piece pieces[MOST_ANSWERS];
    int32_t errors[MOST_ANSWERS];
    Py_ssize_t waiting = self->waiting;
    int sent;
    for (Py_ssize_t i = 0; i < waiting; i++) {
        sockd_bytes bytes = sockd_bytes_in(self->answers[i]);
        pieces[i] = (sb_piece){.data = bytes.data, .size = bytes.size};
    }
    Py_BEGIN_ALLOW_THREADS
    sent = sb_datagrams_send(self->table, fd, self->places, pieces, (size_t)waiting, errors);
    Py_END_ALLOW_THREADS
    *failed = NULL;
    if (sent < waiting)
        *failed = sent < 0 ? NULL : list_failures(self, errors);
    forget_answers(self);
    return sent < waiting && *failed == NULL ? -1 : sent;
}

#endif
