/* SPDX-License-Identifier: MIT */
/*
 * exchange - the type FrameExchange: an event's frames to a function of Python, and its replies back, in one call
 *
 * DESCRIPTION
 *   What sockd.services.handlers.function does in a turn where nothing is special: every frame becomes a bytes object,
 *   the function is called with each, and every reply, which is bytes or None, becomes a frame and is sent to its
 *   connection.  Whatever else a function does - it raises, it returns something else, or what cannot be a frame -
 *   is left to FunctionHandler, which gets the frames and the replies that are there: no frame is ever handed to the
 *   function twice.
 */
#include "python.h"
#include "sockmux.h"

#include <stdlib.h>

enum {
    EXCHANGE_SPANS = 512,
    EXCHANGE_KEPT = 256 * 1024, /* bytes of the replies' buffer that stay for the next turn */
    FIRST_LOOK = 64,            /* frames before the clock is read, and then between two readings: net/connection/turn.py */
    NEXT_LOOK = 1024
};

typedef struct sockd_exchange {
    PyObject_HEAD
    sb_mux *mux;
    sb_framing framing;    /* of frames, and of replies ... */
    size_t ending_size;    /* ... unless this ends each of them as it is */
    char ending[2];
    char *block;           /* replies made into frames */
    size_t size, room;
    uint32_t *lengths;     /* of each */
    size_t lengths_room;
} sockd_exchange;

/* What is called with each frame, and what says whether the turn has taken too long: is_late(index, frames). */
struct exchange_calls {
    PyObject *function, *is_late;
    int index;
};

/* ---- frames */

static const char *exchange_data(const sockd_exchange *self, int64_t offset)
{
    return offset >= 0 ? sb_mux_arena(self->mux) + offset : sb_mux_held(self->mux, -1 - offset);
}

static PyObject *bytes_of_frame(const sockd_exchange *self, const char *data, sb_span span)
{
    Py_ssize_t size = (Py_ssize_t)(span.end - span.start);
    if (self->framing.kind != SB_FRAMING_DOT_BLOCK)
        return PyBytes_FromStringAndSize(data + span.start, size);
    return sockd_unstuffed(data + span.start, size);
}

/* Fill a list with the frames of an event.  0, or -1. */
static int cut_into(const sockd_exchange *self, PyObject *list, const char *data, size_t size, int64_t count)
{
    sb_span spans[EXCHANGE_SPANS];
    sb_scan scan = {.searched = 0};
    Py_ssize_t at = 0;
    while (at < count) {
        size_t next = 0;
        size_t want = count - at < EXCHANGE_SPANS ? (size_t)(count - at) : EXCHANGE_SPANS;
        int n = sb_frames_find(&self->framing, data, size, &scan, spans, want, &next);
        if (n <= 0) {
            PyErr_SetString(PyExc_ValueError, "the event does not have that many frames");
            return -1;
        }
        for (int i = 0; i < n; i++) {
            PyObject *frame = bytes_of_frame(self, data, spans[i]);
            if (frame == NULL || PyList_SetItem(list, at++, frame) < 0)
                return -1;
        }
        data += next;
        size -= next;
    }
    return 0;
}

static PyObject *exchange_list(const sockd_exchange *self, int64_t offset, int64_t size, int64_t count)
{
    PyObject *frames = PyList_New((Py_ssize_t)count);
    if (frames != NULL && cut_into(self, frames, exchange_data(self, offset), (size_t)size, count) < 0)
        Py_CLEAR(frames);
    return frames;
}

/* ---- the function */

/* Whether the rest of the frames has to wait for the next turn, which is arranged then.  -1: an exception. */
static int is_late_at(const struct exchange_calls *calls, Py_ssize_t at)
{
    PyObject *said = PyObject_CallFunction(calls->is_late, "in", calls->index, at);
    int is_late = said == NULL ? -1 : PyObject_IsTrue(said);
    Py_XDECREF(said);
    return is_late;
}

/* Call the function with the only frame, without the means for many. */
static int exchange_once(const struct exchange_calls *calls, PyObject *frames, PyObject *done, PyObject **error)
{
    PyObject *reply = sockd_returned(PyObject_CallFunctionObjArgs(calls->function, PyList_GetItem(frames, 0), NULL));
    if (reply == NULL) {
        *error = sockd_error();
        return *error == NULL ? -1 : 0;
    }
    int code = PyList_Append(done, reply);
    Py_DECREF(reply);
    return code;
}

/* Add the replies to `done`, in the order of the frames; of which those are removed that have to wait.
 * *error is what the function has raised for the frame behind them, or NULL.  0, or -1: an exception of ours. */
static int exchange_each(const struct exchange_calls *calls, PyObject *frames, PyObject *done, PyObject **error)
{
    Py_ssize_t count = PyList_Size(frames), look = FIRST_LOOK;
    if (count == 1)
        return exchange_once(calls, frames, done, error);
    /* map() calls faster than anything else in the stable ABI: PyObject_Vectorcall is of 3.12's. */
    PyObject *replies = PyObject_CallFunctionObjArgs((PyObject *)&PyMap_Type, calls->function, frames, NULL);
    if (replies == NULL)
        return -1;
    iternextfunc next = sockd_next(replies);
    int code = 0;
    for (Py_ssize_t i = 0; i < count && code == 0; i++) {
        if (i == look) {
            look += NEXT_LOOK;
            code = is_late_at(calls, i);
            if (code > 0 && PyList_SetSlice(frames, i, count, NULL) < 0)
                code = -1;
            if (code != 0)
                break;
        }
        PyObject *reply = sockd_returned(next(replies));
        if (reply == NULL) { /* with an exception, unless a function has shortened the list */
            *error = PyErr_Occurred() ? sockd_error() : PyObject_CallNoArgs(PyExc_StopIteration);
            code = *error == NULL ? -1 : 1;
        } else {
            code = PyList_Append(done, reply);
            Py_DECREF(reply);
        }
    }
    Py_DECREF(replies);
    return code < 0 ? -1 : 0;
}

/* ---- replies */

static int exchange_room(sockd_exchange *self, size_t more)
{
    if (more <= self->room - self->size)
        return 0;
    size_t room = self->size + more;
    if (room < 2 * self->room && self->size > 0)
        room = 2 * self->room;
    char *block = realloc(self->block, room);
    if (block == NULL)
        return -1;
    self->block = block;
    self->room = room;
    return 0;
}

/* Bytes of all replies, and about as much as goes around them. */
static size_t replies_size(PyObject *done, size_t count)
{
    size_t size = 16 * count;
    for (size_t i = 0; i < count; i++) {
        PyObject *reply = PyList_GetItem(done, (Py_ssize_t)i);
        size += PyBytes_CheckExact(reply) ? (size_t)PyBytes_Size(reply) : 0;
    }
    return size;
}

/* Put the frame of a reply behind the others.  Its bytes; -1: it cannot be one, or there is no memory. */
static int64_t put_reply(sockd_exchange *self, sockd_bytes reply)
{
    sb__wrap wrap = {.tail_size = self->ending_size};
    if (self->ending_size > 0)
        memcpy(wrap.tail, self->ending, sizeof self->ending);
    else if (sb__frame_wrap(&self->framing, reply.data, reply.size, &wrap) < 0)
        return -1;
    size_t size = wrap.head_size + reply.size + wrap.dots + wrap.tail_size;
    if (size > UINT32_MAX || exchange_room(self, size) < 0)
        return -1;
    sb__frame_write(&wrap, reply.data, reply.size, self->block + self->size);
    self->size += size;
    return (int64_t)size;
}

/* Make frames of all replies, bytes or None.  Whether they can be. */
static int put_replies(sockd_exchange *self, PyObject *done)
{
    size_t count = (size_t)PyList_Size(done);
    if (count > self->lengths_room) {
        uint32_t *lengths = realloc(self->lengths, count * sizeof *lengths);
        if (lengths == NULL)
            return 0;
        self->lengths = lengths;
        self->lengths_room = count;
    }
    self->size = 0;
    if (exchange_room(self, replies_size(done, count)) < 0)
        return 0;
    for (size_t i = 0; i < count; i++) {
        PyObject *reply = PyList_GetItem(done, (Py_ssize_t)i);
        int64_t size = 0;
        if (PyBytes_CheckExact(reply))
            size = put_reply(self, sockd_bytes_in(reply));
        else if (reply != Py_None)
            size = -1;
        if (size < 0)
            return 0;
        self->lengths[i] = (uint32_t)size;
    }
    return 1;
}

static void exchange_trim(sockd_exchange *self)
{
    if (self->room > EXCHANGE_KEPT) {
        free(self->block);
        self->block = NULL;
        self->room = 0;
    }
}

/* Send them.  As put_replies(); -1: an exception. */
static int exchange_send(sockd_exchange *self, int index, PyObject *done)
{
    int code;
    PyObject *only = PyList_Size(done) == 1 ? PyList_GetItem(done, 0) : NULL;
    if (only != NULL && self->ending_size > 0 && PyBytes_CheckExact(only)) { /* which may be large: not copied */
        sockd_bytes line = sockd_bytes_in(only);
        Py_BEGIN_ALLOW_THREADS
        code = sb_mux_reply_line(self->mux, index, line.data, line.size, self->ending, self->ending_size);
        Py_END_ALLOW_THREADS
    } else {
        if (!put_replies(self, done))
            return 0;
        Py_BEGIN_ALLOW_THREADS
        code = sb_mux_reply_lengths(self->mux, index, self->size > 0 ? self->block : "", self->size, self->lengths);
        Py_END_ALLOW_THREADS
        exchange_trim(self);
    }
    if (code < 0) {
        PyErr_SetString(PyExc_ValueError, "the replies are not those of the event");
        return -1;
    }
    return 1;
}

/* ---- methods */

static PyObject *wrong_arguments(void)
{
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "wrong number of arguments");
    return NULL;
}

static PyObject *exchange_cut(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    long long at[3] = {0};
    for (int i = 0; i < 3 && nargs == 3; i++)
        at[i] = PyLong_AsLongLong(args[i]);
    if (nargs != 3 || PyErr_Occurred())
        return wrong_arguments();
    return exchange_list((sockd_exchange *)object, at[0], at[1], at[2]);
}

static PyObject *exchange_answer(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    sockd_exchange *self = (sockd_exchange *)object;
    long long at[4] = {0};
    for (int i = 0; i < 4 && nargs == 6; i++)
        at[i] = PyLong_AsLongLong(args[i]);
    if (nargs != 6 || PyErr_Occurred())
        return wrong_arguments();
    struct exchange_calls calls = {.index = (int)at[0], .function = args[4], .is_late = args[5]};
    PyObject *error = NULL, *left = NULL;
    PyObject *done = PyList_New(0), *frames = exchange_list(self, at[1], at[2], at[3]);
    if (done != NULL && frames != NULL && exchange_each(&calls, frames, done, &error) == 0) {
        int code = error == NULL ? exchange_send(self, calls.index, done) : 0;
        if (code > 0)
            left = Py_NewRef(Py_None);
        else if (code == 0)
            left = PyTuple_Pack(3, frames, done, error != NULL ? error : Py_None);
    }
    Py_XDECREF(error);
    Py_XDECREF(frames);
    Py_XDECREF(done);
    return left;
}

static PyObject *exchange_use(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    sockd_exchange *self = (sockd_exchange *)object;
    if (nargs != 3 || !PyBytes_Check(args[2]) || PyBytes_Size(args[2]) > (Py_ssize_t)sizeof self->ending)
        return wrong_arguments();
    self->mux = PyLong_AsVoidPtr(args[0]);
    if ((self->mux == NULL && PyErr_Occurred()) || sockd_read_framing(args[1], &self->framing) < 0)
        return NULL;
    sockd_bytes ending = sockd_bytes_in(args[2]);
    self->ending_size = ending.size;
    memcpy(self->ending, ending.data, ending.size);
    return Py_NewRef(Py_None);
}

static void exchange_dealloc(PyObject *object)
{
    free(((sockd_exchange *)object)->block);
    free(((sockd_exchange *)object)->lengths);
    sockd_free(object);
}

static PyMethodDef exchange_methods[] = {
    {"cut", (PyCFunction)(void (*)(void))exchange_cut, METH_FASTCALL,
     "Return the payloads of an event's frames: cut(offset, size, count)."},
    {"answer", (PyCFunction)(void (*)(void))exchange_answer, METH_FASTCALL,
     "Answer an event: answer(index, offset, size, count, function, is_late).\n\n"
     "Returns:\n    None; or, where nothing was sent, (frames, replies, what the function has raised for the next one)."},
    {"_use", (PyCFunction)(void (*)(void))exchange_use, METH_FASTCALL,
     "Set the address of the sb_mux, the bytes of the sb_framing, and what ends a reply that is a line."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot exchange_slots[] = {
    {Py_tp_doc, "Hands frames to a function, and sends its replies."},
    {Py_tp_methods, exchange_methods},
    {Py_tp_dealloc, (void *)exchange_dealloc},
    {0, NULL},
};

PyType_Spec sockd_exchange_spec = {
    .name = "sockd._sockbuf.FrameExchange",
    .basicsize = sizeof(sockd_exchange),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = exchange_slots,
};
