/* SPDX-License-Identifier: MIT */
/*
 * cutter - the type FrameCutter: received bytes in, frames out
 *
 * DESCRIPTION
 *   What sockd.buffer.ReceiveBuffer does for each piece and each frame; the rest of it is
 *   Python.  A frame is cut when it is asked for, so that nothing has to be put back when a
 *   loop is left, or the framing changes.
 *
 *   Data are one object: the bytes object that was fed, which is not copied; or, when a frame
 *   comes in pieces, a bytearray that grows.  What is left of a piece is moved into a bytearray
 *   once it is no more than what was cut off it, or more is fed, and within the bytearray by the
 *   same rule: so a byte is copied a bounded number of times, however it arrives and however
 *   much waits.  A bytearray of which a view was handed out is not changed any more.
 *
 *   What is wrong is said by ReceiveBuffer._refuse(code, offset, size), which raises it.
 */
#include "python.h"

typedef struct sockd_cutter {
    PyObject_HEAD
    PyObject *data;        /* bytes or a bytearray; NULL: none */
    PyObject *guard;       /* a view of a bytearray that others can reach by theirs: it cannot be resized */
    char *bytes;           /* of it */
    size_t begin, end;     /* what of them is not cut */
    uint64_t offset;       /* of begin in the stream */
    uint64_t failed_at;    /* where the frame begins that was reported, or is discarded */
    size_t limit;          /* bytes held */
    sb_framing framing;
    sb_scan scan;
    struct sockd_noted {   /* what cutter_raise() passes on */
        unsigned long long offset, size;
    } noted;
    char is_own;           /* the bytearray is nobody else's */
    char has_found;        /* a frame, in this loop */
    char is_failed, is_discarding, is_ended;
} sockd_cutter;

static size_t cutter_left(const sockd_cutter *self)
{
    return self->end - self->begin;
}

/* ---- data */

/* Have these data, the reference included; NULL: none. */
static void cutter_hold(sockd_cutter *self, PyObject *data, int is_own, size_t end)
{
    PyObject *before = self->data, *guard = self->guard;
    self->data = data;
    self->guard = NULL;
    self->is_own = (char)is_own;
    self->bytes = data == NULL ? NULL : is_own ? PyByteArray_AsString(data) : PyBytes_AsString(data);
    self->begin = 0;
    self->end = end;
    Py_XDECREF(guard);
    Py_XDECREF(before);
}

static void cutter_skip(sockd_cutter *self, size_t n)
{
    self->begin += n;
    self->offset += n;
    if (self->begin == self->end)
        cutter_hold(self, NULL, 0, 0);
}

/* Move what is left into a bytearray of its own, with n more bytes behind it.  0, or SB_ERR_NOMEM. */
static int cutter_gather(sockd_cutter *self, const char *more, size_t n)
{
    size_t left = cutter_left(self);
    if (!self->is_own) {
        PyObject *own = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(left + n));
        if (own == NULL)
            return SB_ERR_NOMEM;
        if (left > 0)
            memcpy(PyByteArray_AsString(own), self->bytes + self->begin, left);
        cutter_hold(self, own, 1, left);
    } else {
        if (self->begin >= left) {
            memmove(self->bytes, self->bytes + self->begin, left);
            self->begin = 0;
            self->end = left;
        }
        if (PyByteArray_Resize(self->data, (Py_ssize_t)(self->end + n)) < 0)
            return SB_ERR_NOMEM;
        self->bytes = PyByteArray_AsString(self->data);
    }
    if (n > 0)
        memcpy(self->bytes + self->end, more, n);
    self->end += n;
    return 0;
}

/* ---- frames */

/* Note what is wrong.  Returns code. */
static int cutter_note(sockd_cutter *self, int code, uint64_t offset, uint64_t size)
{
    self->noted = (struct sockd_noted){.offset = offset, .size = size};
    return code;
}

/* Raise what _refuse() makes of it. */
static void cutter_raise(sockd_cutter *self, int code)
{
    if (code == SB_ERR_NOMEM) {
        PyErr_NoMemory();
        return;
    }
    PyObject *made = PyObject_CallMethod((PyObject *)self, "_refuse", "iKK", code, self->noted.offset, self->noted.size);
    if (made != NULL) {
        Py_DECREF(made);
        PyErr_SetString(PyExc_SystemError, "_refuse() has raised nothing");
    }
}

static int cutter_fail(sockd_cutter *self, int code)
{
    uint64_t at = self->offset + (code == SB_ERR_MALFORMED ? self->scan.searched : 0);
    self->scan = (sb_scan){.searched = 0};
    self->is_failed = 1;
    self->failed_at = self->offset;
    return cutter_note(self, code, at, self->framing.limit);
}

/* Skip what is held of a rejected frame.  Returns as sb_frame_discard. */
static int cutter_drop(sockd_cutter *self)
{
    size_t drop = 0;
    int code = sb_frame_discard(&self->framing, self->bytes + self->begin, cutter_left(self), &self->scan, &drop);
    if (code >= 0) {
        cutter_skip(self, drop);
        self->is_discarding = code == 0;
    }
    return code;
}

/* Find the next frame.  1; 0: none is complete; < 0: why there will be none, for cutter_raise(). */
static int cutter_find(sockd_cutter *self, sb_frame *frame)
{
    if (self->is_discarding)
        cutter_drop(self);
    size_t left = cutter_left(self);
    int code = left == 0 || self->is_discarding
                 ? 0
                 : sb_frame_find(&self->framing, self->bytes + self->begin, left, &self->scan, frame);
    if (code != 0)
        return code > 0 ? code : cutter_fail(self, code);
    if (self->is_ended && (left > 0 || self->is_discarding)) {
        uint64_t begin = self->is_discarding ? self->failed_at : self->offset;
        return cutter_note(self, SB_ERR_TRUNCATED, begin, self->offset + left - begin);
    }
    return left > 0 && self->begin >= left ? cutter_gather(self, NULL, 0) : 0;
}

static PyObject *cutter_bytes(sockd_cutter *self, const sb_frame *frame)
{
    const char *payload = self->bytes + self->begin + frame->start;
    Py_ssize_t size = (Py_ssize_t)(frame->end - frame->start);
    if (frame->dots == 0)
        return PyBytes_FromStringAndSize(payload, size);
    return sockd_unstuffed(payload, size);
}

/* Cut one frame off.  As cutter_find(); *made is it. */
static int cutter_cut(sockd_cutter *self, PyObject *(*make)(sockd_cutter *, const sb_frame *), PyObject **made)
{
    sb_frame frame;
    do {
        int code = cutter_find(self, &frame);
        if (code <= 0)
            return code;
        *made = make(self, &frame);
    } while (*made == NULL && !PyErr_Occurred()); /* the frame is not there any more */
    if (*made == NULL)
        return SB_ERR_NOMEM;
    cutter_skip(self, frame.next);
    return 1;
}

/* A view of bytes begin to end of an object, which nobody can write through. */
static PyObject *view_part(PyObject *data, size_t begin, size_t end, int is_bytearray)
{
    PyObject *first = PyLong_FromSize_t(begin), *last = PyLong_FromSize_t(end);
    PyObject *slice = first != NULL && last != NULL ? PySlice_New(first, last, NULL) : NULL;
    PyObject *view = slice != NULL ? PyMemoryView_FromObject(data) : NULL;
    PyObject *part = view != NULL ? PyObject_GetItem(view, slice) : NULL;
    if (part != NULL && is_bytearray) {
        PyObject *readonly = PyObject_CallMethod(part, "toreadonly", NULL);
        Py_DECREF(part);
        part = readonly;
    }
    Py_XDECREF(view);
    Py_XDECREF(slice);
    Py_XDECREF(last);
    Py_XDECREF(first);
    return part;
}

/* Change the bytearray no more, and keep it from being resized by others: they reach it by memoryview.obj, also once the
 * view is released.  0, or -1. */
static int cutter_guard(sockd_cutter *self)
{
    self->is_own = 0;
    PyObject *data = self->data, *guard = PyMemoryView_FromObject(data);
    int code = guard == NULL ? -1 : 0;
    if (self->data == data && self->guard == NULL)
        self->guard = guard;
    else
        Py_XDECREF(guard);
    return code;
}

/* A view of a frame.  One with dots to take out is copied; so is one in the bytearray that is less than what is behind
 * it, which would otherwise have to be moved away from the view when more is fed. */
static PyObject *view_frame(sockd_cutter *self, PyObject *data, const sb_frame *frame)
{
    size_t at = self->begin;
    if (frame->dots > 0 || (self->is_own && frame->next < cutter_left(self) - frame->next)) {
        PyObject *copy = cutter_bytes(self, frame);
        PyObject *view = copy == NULL ? NULL : PyMemoryView_FromObject(copy);
        Py_XDECREF(copy);
        return view;
    }
    if (self->is_own && cutter_guard(self) < 0)
        return NULL;
    return view_part(data, at + frame->start, at + frame->end, PyByteArray_Check(data));
}

/* The same; NULL without an exception: look again.  Up to Python 3.11 the collector runs where a view is made, and with
 * it code of others, which may feed more or take the frame. */
static PyObject *cutter_view(sockd_cutter *self, const sb_frame *frame)
{
    PyObject *data = Py_NewRef(self->data);
    size_t begin = self->begin;
    uint64_t offset = self->offset;
    PyObject *view = view_frame(self, data, frame);
    if (view != NULL && (self->data != data || self->begin != begin || self->offset != offset))
        Py_CLEAR(view);
    Py_DECREF(data);
    return view;
}

/* ---- methods */

static PyObject *cutter_feed(PyObject *object, PyObject *data)
{
    sockd_cutter *self = (sockd_cutter *)object;
    PyObject *fed = sockd_as_bytes(data);
    if (fed == NULL)
        return NULL;
    sockd_bytes more = sockd_bytes_in(fed);
    int code = 0;
    if (self->is_ended) {
        PyErr_SetString(PyExc_ValueError, "the stream has ended");
        code = -1;
    } else if (cutter_left(self) > self->limit || more.size > self->limit - cutter_left(self)) {
        code = cutter_note(self, SB_ERR_LIMIT, self->offset, self->limit);
        cutter_raise(self, code);
    } else if (self->data == NULL) {
        Py_INCREF(fed);
        cutter_hold(self, fed, 0, more.size);
    } else {
        code = cutter_gather(self, more.data, more.size);
    }
    Py_DECREF(fed);
    return code < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *cutter_iter(PyObject *object)
{
    ((sockd_cutter *)object)->has_found = 0;
    return Py_NewRef(object);
}

static PyObject *cutter_next(PyObject *object, PyObject *unused)
{
    sockd_cutter *self = (sockd_cutter *)object;
    PyObject *frame = NULL;
    (void)unused;
    int code = cutter_cut(self, cutter_bytes, &frame);
    if (code > 0)
        self->has_found = 1;
    else if (code < 0 && (!self->has_found || code == SB_ERR_NOMEM)) /* the frames before it come first */
        cutter_raise(self, code);
    return frame;
}

static PyObject *pop(PyObject *object, PyObject *(*make)(sockd_cutter *, const sb_frame *))
{
    PyObject *frame = NULL;
    int code = cutter_cut((sockd_cutter *)object, make, &frame);
    if (code < 0)
        cutter_raise((sockd_cutter *)object, code);
    return code == 0 ? Py_NewRef(Py_None) : frame;
}

static PyObject *cutter_pop(PyObject *object, PyObject *unused)
{
    (void)unused;
    return pop(object, cutter_bytes);
}

static PyObject *cutter_pop_view(PyObject *object, PyObject *unused)
{
    (void)unused;
    return pop(object, cutter_view);
}

static PyObject *cutter_check(PyObject *object, PyObject *unused)
{
    sb_frame frame;
    (void)unused;
    int code = cutter_find((sockd_cutter *)object, &frame);
    if (code < 0) {
        cutter_raise((sockd_cutter *)object, code);
        return NULL;
    }
    return Py_NewRef(Py_None);
}

static PyObject *cutter_eof(PyObject *object, PyObject *unused)
{
    ((sockd_cutter *)object)->is_ended = 1;
    return cutter_check(object, unused);
}

static void cutter_forget(sockd_cutter *self)
{
    self->scan = (sb_scan){.searched = 0};
    self->is_failed = self->is_discarding = 0;
}

static PyObject *cutter_unread(PyObject *object, PyObject *unused)
{
    sockd_cutter *self = (sockd_cutter *)object;
    size_t left = cutter_left(self);
    (void)unused;
    PyObject *data = PyBytes_FromStringAndSize(left == 0 ? NULL : self->bytes + self->begin, (Py_ssize_t)left);
    if (data != NULL) {
        cutter_skip(self, left);
        cutter_forget(self);
    }
    return data;
}

/* None: no frame was reported; False: it has no delimiter; True. */
static PyObject *cutter_discard(PyObject *object, PyObject *unused)
{
    sockd_cutter *self = (sockd_cutter *)object;
    (void)unused;
    if (!self->is_failed)
        return Py_NewRef(Py_None);
    int code = cutter_drop(self);
    self->is_failed = code < 0;
    return PyBool_FromLong(code >= 0);
}

static PyObject *cutter_use(PyObject *object, PyObject *description)
{
    sockd_cutter *self = (sockd_cutter *)object;
    if (sockd_read_framing(description, &self->framing) < 0)
        return NULL;
    cutter_forget(self);
    return Py_NewRef(Py_None);
}

static PyObject *cutter_set_limit(PyObject *object, PyObject *limit)
{
    sockd_cutter *self = (sockd_cutter *)object;
    size_t bytes = PyLong_AsSize_t(limit);
    if (bytes == (size_t)-1 && PyErr_Occurred())
        return NULL;
    self->limit = bytes;
    return Py_NewRef(Py_None);
}

static PyObject *cutter_get_held(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(cutter_left((sockd_cutter *)object));
}

static PyObject *cutter_get_offset(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((sockd_cutter *)object)->offset);
}

static PyObject *cutter_is_stopped(PyObject *object, void *unused)
{
    const sockd_cutter *self = (sockd_cutter *)object;
    (void)unused;
    return PyBool_FromLong(self->is_failed || self->is_discarding);
}

static void cutter_dealloc(PyObject *object)
{
    Py_XDECREF(((sockd_cutter *)object)->guard);
    Py_XDECREF(((sockd_cutter *)object)->data);
    sockd_free(object);
}

SOCKD_METHOD(cutter_feed)
SOCKD_METHOD(cutter_next)
SOCKD_METHOD(cutter_pop)
SOCKD_METHOD(cutter_pop_view)
SOCKD_METHOD(cutter_check)
SOCKD_METHOD(cutter_eof)
SOCKD_METHOD(cutter_unread)
SOCKD_METHOD(cutter_discard)
SOCKD_METHOD(cutter_use)
SOCKD_METHOD(cutter_set_limit)

static PyObject *cutter_iternext(PyObject *object)
{
    return cutter_next_locked(object, NULL);
}

static PyMethodDef cutter_methods[] = {
    {"feed", cutter_feed_locked, METH_O,
     "Add bytes of the stream; a bytes object is kept without a copy where possible.\n\n"
     "Raises:\n    BufferFull: it would hold more than max_bytes; nothing was added.\n"
     "    ValueError: the stream has ended.\n    TypeError: data are not bytes-like."},
    {"pop", cutter_pop_locked, METH_NOARGS,
     "Return one frame; None when none is complete.\n\nRaises:\n    FrameError: as iteration."},
    {"_pop_view", cutter_pop_view_locked, METH_NOARGS, "Return one frame as a view; None when none is complete."},
    {"check", cutter_check_locked, METH_NOARGS,
     "Raise what the peer did wrong, if that is what comes next; after a loop over the frames.\n\n"
     "Raises:\n    FrameError: as iteration."},
    {"eof", cutter_eof_locked, METH_NOARGS,
     "Say that the stream has ended.\n\nRaises:\n"
     "    Truncated: within a frame.  While complete frames are held, it is raised after the last of them instead."},
    {"unread", cutter_unread_locked, METH_NOARGS, "Return all bytes held, for another consumer of the stream."},
    {"_discard", cutter_discard_locked, METH_NOARGS,
     "Skip the reported frame: True; False: it has no delimiter; None: there is none."},
    {"_use", cutter_use_locked, METH_O, "Cut by another framing: the bytes of a sb_framing."},
    {"_set_limit", cutter_set_limit_locked, METH_O, "Set how many bytes may be held."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef cutter_getters[] = {
    {"held", cutter_get_held, NULL, "Bytes that were fed and not yet returned.", NULL},
    {"offset", cutter_get_offset, NULL, "Number of bytes of the stream that were returned, so where the next frame begins.", NULL},
    {"_is_stopped", cutter_is_stopped, NULL, "Whether a frame was reported, or is discarded.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot cutter_slots[] = {
    {Py_tp_doc, "Cuts a stream into frames; sockd.buffer.ReceiveBuffer is made of it."},
    {Py_tp_methods, cutter_methods},
    {Py_tp_getset, cutter_getters},
    {Py_tp_iter, (void *)cutter_iter},
    {Py_tp_iternext, (void *)cutter_iternext},
    {Py_tp_dealloc, (void *)cutter_dealloc},
    {0, NULL},
};

PyType_Spec sockd_cutter_spec = {
    .name = "sockd._sockbuf.FrameCutter",
    .basicsize = sizeof(sockd_cutter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = cutter_slots,
};
