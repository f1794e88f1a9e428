/* SPDX-License-Identifier: MIT */
/*
 * calls - the type DatagramCalls: datagrams to a function of Python, and its answers back, in one call
 *
 * DESCRIPTION
 *   A table of datagrams is made, asked and freed through cffi; what each turn does goes the short way.
 *   sockd.net.udp.table.DatagramTable is made of it, and owns the table.
 *
 *   exchange() receives, calls the function with each datagram, sends its answers, and receives again, until nothing is
 *   left.  As soon as something is not as usual - a sender that has to be judged, an exception, an answer that is neither
 *   bytes nor None, or was not sent, the end of the turn - it returns, and sockd.net.udp.listener continues at `next`.
 *   A function may close the listener or reload it: so the socket is asked for its descriptor before each use, and
 *   nothing is done for a batch that another one has replaced.
 */
#include "batch.h"

#include <structmember.h>

#include <stddef.h>

/* What is called with each datagram, and until when. */
struct turn_calls {
    PyObject *socket, *function, *clock;
    double end;
};

/* What has come of it. */
struct turn {
    Py_ssize_t received, answered;
    int error; /* of the socket */
    int is_late, is_over;
    PyObject *odd;    /* a place, and its answer or the exception */
    PyObject *unsent; /* see list_failures() */
    char last[NAME_BYTES];
    Py_ssize_t last_size; /* the name of who was answered last */
};

/* The descriptor; -1: the socket is closed. */
static int descriptor_of(PyObject *socket)
{
    int fd = PyObject_AsFileDescriptor(socket);
    if (fd < 0)
        PyErr_Clear();
    return fd;
}

/* ---- one batch */

/* An answer, or NULL with an exception, of a datagram whose turn it was.  0, or -1: an exception of ours. */
static int note_answer(sockd_calls *self, struct turn *turn, Py_ssize_t place, PyObject *answer)
{
    if (answer == Py_None || (answer != NULL && PyBytes_CheckExact(answer) && keep_answer(self, place, answer) == 0))
        return 0;
    turn->is_over = 1;
    PyObject *error = NULL;
    if (answer == NULL) /* with an exception, unless the function has shortened the list */
        error = PyErr_Occurred() ? sockd_error() : PyObject_CallNoArgs(PyExc_StopIteration);
    if (answer == NULL && error == NULL)
        return -1;
    turn->odd = Py_BuildValue("nOO", place, answer != NULL ? answer : Py_None, error != NULL ? error : Py_None);
    Py_XDECREF(error);
    return turn->odd == NULL ? -1 : 0;
}

static int is_past_end(const struct turn_calls *calls)
{
    PyObject *now = PyObject_CallNoArgs(calls->clock);
    double seconds = now == NULL ? -1.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    return PyErr_Occurred() ? -1 : seconds >= calls->end;
}

static PyObject *call_next(const sockd_calls *self, const struct turn_calls *calls, PyObject *answers, iternextfunc next)
{
    if (answers != NULL)
        return sockd_returned(next(answers));
    PyObject *payload = Py_NewRef(PyList_GetItem(self->payloads, 0)); /* the call may lead to another batch */
    PyObject *answer = sockd_returned(PyObject_CallFunctionObjArgs(calls->function, payload, NULL));
    Py_DECREF(payload);
    return answer;
}

/* Hand over the datagrams of a batch, as long as all is as usual.  0, or -1: an exception of ours. */
static int handle_batch(sockd_calls *self, const struct turn_calls *calls, struct turn *turn)
{
    Py_ssize_t count = self->plain, generation = self->generation;
    PyObject *answers = NULL;
    if (count > 1) /* map() calls faster than anything else in the stable ABI: PyObject_Vectorcall is of 3.12's. */
        answers = PyObject_CallFunctionObjArgs((PyObject *)&PyMap_Type, calls->function, self->payloads, NULL);
    int code = count > 1 && answers == NULL ? -1 : 0;
    iternextfunc next = answers != NULL ? sockd_next(answers) : NULL;
    for (Py_ssize_t place = 0; place < count && code == 0 && !turn->is_over; place++) {
        self->next = place + 1;
        PyObject *answer = call_next(self, calls, answers, next);
        if (self->generation != generation) { /* the datagram is gone, and with it who would be answered */
            turn->is_over = 1;
            PyErr_Clear();
        } else {
            code = note_answer(self, turn, place, answer);
        }
        Py_XDECREF(answer);
        turn->is_over |= self->next != place + 1;
        if (code == 0) {
            int is_late = is_past_end(calls);
            code = is_late < 0 ? -1 : 0;
            turn->is_late = is_late > 0;
            turn->is_over |= turn->is_late;
        }
    }
    Py_XDECREF(answers);
    turn->is_over |= self->stops || self->next < PyList_Size(self->payloads);
    return code;
}

/* Send its answers.  0, or -1. */
static int answer_batch(sockd_calls *self, const struct turn_calls *calls, struct turn *turn)
{
    if (self->waiting == 0)
        return 0;
    int fd = descriptor_of(calls->socket);
    if (fd < 0) {
        forget_answers(self);
        turn->is_over = 1;
        return 0;
    }
    sb_datagram one;
    if (sb_datagrams_get(self->table, self->places[self->waiting - 1], &one) == 0 && one.name_size <= sizeof turn->last) {
        memcpy(turn->last, one.name, one.name_size);
        turn->last_size = (Py_ssize_t)one.name_size;
    }
    Py_ssize_t sent = send_answers(self, fd, &turn->unsent);
    if (sent < 0)
        return -1;
    turn->answered += sent;
    turn->is_over |= turn->unsent != NULL;
    return 0;
}

/* ---- methods */

/* 0, or -1: there is no table, or other arguments were expected. */
static int check_call(const sockd_calls *self, int is_right)
{
    if (self->table != NULL && is_right)
        return 0;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "other arguments were expected, or a table");
    return -1;
}

/* What was received last is handled, or lost.  0, or -1. */
static int run_turn(sockd_calls *self, const struct turn_calls *calls, Py_ssize_t most, Py_ssize_t wanted, struct turn *turn)
{
    while (turn->received < most && !turn->is_over) {
        Py_ssize_t left = most - turn->received;
        int fd = descriptor_of(calls->socket);
        if (fd < 0)
            return 0;
        int received = receive_batch(self, fd, left < wanted ? left : wanted, 0, &turn->error);
        if (received <= 0)
            return received;
        turn->received += received;
        if (handle_batch(self, calls, turn) < 0 || answer_batch(self, calls, turn) < 0)
            return -1;
    }
    return 0;
}

static PyObject *calls_exchange(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    sockd_calls *self = (sockd_calls *)object;
    if (check_call(self, nargs == 6) < 0)
        return NULL;
    struct turn_calls calls = {.socket = args[0], .function = args[3], .clock = args[4], .end = PyFloat_AsDouble(args[5])};
    Py_ssize_t most = PyLong_AsSsize_t(args[1]), wanted = PyLong_AsSsize_t(args[2]);
    struct turn turn = {.received = 0};
    PyObject *made = NULL;
    if (!PyErr_Occurred() && run_turn(self, &calls, most, wanted < MOST_ANSWERS ? wanted : MOST_ANSWERS, &turn) == 0) {
        PyObject *last = PyBytes_FromStringAndSize(turn.last, turn.last_size);
        PyObject *odd = turn.odd != NULL ? turn.odd : Py_None, *unsent = turn.unsent != NULL ? turn.unsent : Py_None;
        if (last != NULL)
            made = Py_BuildValue("nniOOOO", turn.received, turn.answered, turn.error, turn.is_late ? Py_True : Py_False,
                                 last, odd, unsent);
        Py_XDECREF(last);
    }
    Py_XDECREF(turn.odd);
    Py_XDECREF(turn.unsent);
    return made;
}

static PyObject *calls_receive(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    sockd_calls *self = (sockd_calls *)object;
    if (check_call(self, nargs == 3) < 0)
        return NULL;
    long fd = PyLong_AsLong(args[0]), wanted = PyLong_AsLong(args[1]);
    int with_senders = PyObject_IsTrue(args[2]), error = 0;
    if (PyErr_Occurred())
        return NULL;
    forget_answers(self); /* to a batch that is gone; whoever wants them sent has sent them */
    int received = receive_batch(self, (int)fd, wanted, with_senders, &error);
    if (received < 0)
        return NULL;
    if (error == 0)
        return PyLong_FromLong(received);
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *calls_add(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    sockd_calls *self = (sockd_calls *)object;
    if (check_call(self, nargs == 2 && PyBytes_Check(args[1])) < 0)
        return NULL;
    Py_ssize_t place = PyLong_AsSsize_t(args[0]);
    if (PyErr_Occurred())
        return NULL;
    if (keep_answer(self, place, args[1]) < 0) {
        PyErr_SetString(PyExc_ValueError, "too many answers, or a place that has no datagram");
        return NULL;
    }
    return PyLong_FromSsize_t(MOST_ANSWERS - self->waiting);
}

static PyObject *calls_flush(PyObject *object, PyObject *descriptor)
{
    sockd_calls *self = (sockd_calls *)object;
    PyObject *failed;
    if (check_call(self, 1) < 0)
        return NULL;
    long fd = PyLong_AsLong(descriptor);
    if (PyErr_Occurred())
        return NULL;
    Py_ssize_t sent = send_answers(self, (int)fd, &failed);
    if (sent < 0)
        return NULL;
    PyObject *made = failed != NULL ? Py_BuildValue("nO", sent, failed) : Py_BuildValue("n()", sent);
    Py_XDECREF(failed);
    return made;
}

static PyObject *calls_use(PyObject *object, PyObject *address)
{
    sockd_calls *self = (sockd_calls *)object;
    void *table = PyLong_AsVoidPtr(address);
    if ((table == NULL && PyErr_Occurred()) || list_received(self, 0, 0) < 0)
        return NULL;
    self->table = table;
    return Py_NewRef(Py_None);
}

static void calls_dealloc(PyObject *object)
{
    sockd_calls *self = (sockd_calls *)object;
    forget_answers(self);
    Py_XDECREF(self->payloads);
    Py_XDECREF(self->names);
    Py_XDECREF(self->controls);
    sockd_free(object);
}

static PyMethodDef calls_methods[] = {
    {"_receive", (PyCFunction)(void (*)(void))calls_receive, METH_FASTCALL,
     "Receive into the table: _receive(descriptor, number, with_senders); return how many.\n\n"
     "Raises:\n    OSError: the socket has an error."},
    {"_exchange", (PyCFunction)(void (*)(void))calls_exchange, METH_FASTCALL,
     "Receive, handle and answer: _exchange(socket, most, of a batch, function, clock, end).\n\n"
     "Returns:\n    How many were received and answered, an errno of the socket, whether it is late, the name of who was\n"
     "    answered last, (place, answer, exception) of one that was not as usual, and what flush() returns of failures."},
    {"_add", (PyCFunction)(void (*)(void))calls_add, METH_FASTCALL,
     "Have an answer wait for flush(): _add(place, answer); return for how many more there is room."},
    {"_flush", calls_flush, METH_O,
     "Send what waits; return how many were sent, and (place, size, errno) of each that was not."},
    {"_use", calls_use, METH_O, "Use the sb_datagrams at an address, which has to outlive this object."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef calls_members[] = {
    {"payloads", T_OBJECT, offsetof(sockd_calls, payloads), READONLY, NULL},
    {"names", T_OBJECT, offsetof(sockd_calls, names), READONLY, NULL},
    {"controls", T_OBJECT, offsetof(sockd_calls, controls), READONLY, NULL},
    {"next", T_PYSSIZET, offsetof(sockd_calls, next), 0, NULL},
    {"plain", T_PYSSIZET, offsetof(sockd_calls, plain), 0, NULL},
    {"stops", T_PYSSIZET, offsetof(sockd_calls, stops), 0, NULL},
    {"generation", T_PYSSIZET, offsetof(sockd_calls, generation), READONLY, NULL},
    {"waiting", T_PYSSIZET, offsetof(sockd_calls, waiting), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot calls_slots[] = {
    {Py_tp_doc, "Receives and answers datagrams; sockd.net.udp.table.DatagramTable is made of it."},
    {Py_tp_methods, calls_methods},
    {Py_tp_members, calls_members},
    {Py_tp_dealloc, (void *)calls_dealloc},
    {0, NULL},
};

PyType_Spec sockd_calls_spec = {
    .name = "sockd._sockbuf.DatagramCalls",
    .basicsize = sizeof(sockd_calls),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = calls_slots,
};
