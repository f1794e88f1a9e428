/* SPDX-License-Identifier: MIT */
/*
 * encoder - the type FrameEncoder: payloads in, frames out
 *
 * DESCRIPTION
 *   A frame is written once, into the bytes object that is returned.  What cannot be one is said by
 *   PayloadEncoder._refuse(code, payload), which raises it; what is not bytes is first made bytes by _as_bytes(payload).
 */

#include "python.h"

typedef struct sockd_encoder {
    PyObject_HEAD
    sb_framing framing;
    int ends_in_crlf; /* LINE: what is written behind it */
} sockd_encoder;

static int encoder_wrap(const sockd_encoder *self, sockd_bytes payload, sb__wrap *wrap)
{
    if (!self->ends_in_crlf)
        return sb__frame_wrap(&self->framing, payload.data, payload.size, wrap);
    if (payload.size > self->framing.limit)
        return SB_ERR_TOO_LONG;
    if (memchr(payload.data, '\n', payload.size) != NULL)
        return SB_ERR_MALFORMED;
    wrap->head_size = wrap->dots = 0;
    wrap->tail_size = 2;
    memcpy(wrap->tail, "\r\n", 2);
    return 0;
}

static PyObject *encode_bytes(PyObject *object, PyObject *bytes)
{
    const sockd_encoder *self = (sockd_encoder *)object;
    sockd_bytes payload = sockd_bytes_in(bytes);
    sb__wrap wrap;
    int code = encoder_wrap(self, payload, &wrap);
    if (code < 0)
        return PyObject_CallMethod(object, "_refuse", "iO", code, bytes);
    size_t size = wrap.head_size + payload.size + wrap.dots + wrap.tail_size;
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (made != NULL)
        sb__frame_write(&wrap, payload.data, payload.size, PyBytes_AsString(made));
    return made;
}

static PyObject *encoder_encode(PyObject *object, PyObject *payload)
{
    if (PyBytes_CheckExact(payload))
        return encode_bytes(object, payload);
    PyObject *bytes = PyObject_CallMethod(object, "_as_bytes", "(O)", payload);
    if (bytes == NULL)
        return NULL;
    PyObject *made = NULL;
    if (PyBytes_CheckExact(bytes))
        made = encode_bytes(object, bytes);
    else
        PyErr_SetString(PyExc_TypeError, "_as_bytes() has not returned bytes");
    Py_DECREF(bytes);
    return made;
}

/* Bytes that the frames of all payloads have; 0 also where one of them is not bytes, or cannot be a frame. */
static size_t list_room(const sockd_encoder *self, PyObject *list, Py_ssize_t count)
{
    size_t room = 0, ending = self->ends_in_crlf ? 2 : 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *payload = PyList_GetItem(list, i);
        sb__wrap wrap;
        if (!PyBytes_CheckExact(payload))
            return 0;
        if (self->framing.kind == SB_FRAMING_LINE) { /* looked through when it is written */
            room += (size_t)PyBytes_Size(payload) + ending;
            continue;
        }
        sockd_bytes bytes = sockd_bytes_in(payload);
        if (encoder_wrap(self, bytes, &wrap) < 0)
            return 0;
        room += wrap.head_size + bytes.size + wrap.dots + wrap.tail_size;
    }
    return room;
}

/* 0, or SB_ERR_*: one of them cannot be a frame. */
static int write_list(const sockd_encoder *self, PyObject *list, Py_ssize_t count, char *room)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        sockd_bytes payload = sockd_bytes_in(PyList_GetItem(list, i));
        sb__wrap wrap;
        int code = encoder_wrap(self, payload, &wrap);
        if (code < 0)
            return code;
        room = sb__frame_write(&wrap, payload.data, payload.size, room);
    }
    return 0;
}

/* NULL, without an exception too: it cannot be done at once. */
static PyObject *encode_list(PyObject *object, PyObject *list)
{
    const sockd_encoder *self = (sockd_encoder *)object;
    Py_ssize_t count = PyList_Size(list);
    size_t room = list_room(self, list, count);
    if (room == 0 || room > PY_SSIZE_T_MAX)
        return NULL;
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);
    if (made != NULL && write_list(self, list, count, PyBytes_AsString(made)) < 0)
        Py_CLEAR(made);
    return made;
}

static PyObject *encoder_encode_all(PyObject *object, PyObject *payloads)
{
    PyObject *made = NULL;
    if (PyList_CheckExact(payloads)) {
        SOCKD_BEGIN_BOTH_LOCKED(object, payloads) /* measured first, then written: the framing stays the same meanwhile */
        made = encode_list(object, payloads);
        SOCKD_END_BOTH_LOCKED
    }
    if (made != NULL || PyErr_Occurred())
        return made;
    return PyObject_CallMethod(object, "_encode_each", "(O)", payloads);
}

static PyObject *encoder_use(PyObject *object, PyObject *description)
{
    sockd_encoder *self = (sockd_encoder *)object;
    if (sockd_read_framing(description, &self->framing) < 0)
        return NULL;
    self->ends_in_crlf = 0;
    return Py_NewRef(Py_None);
}

static PyObject *encoder_end_in_crlf(PyObject *object, PyObject *unused)
{
    (void)unused;
    ((sockd_encoder *)object)->ends_in_crlf = 1;
    return Py_NewRef(Py_None);
}

SOCKD_METHOD(encoder_encode)
SOCKD_METHOD(encoder_use)
SOCKD_METHOD(encoder_end_in_crlf)

static PyMethodDef encoder_methods[] = {
    {"encode", encoder_encode_locked, METH_O, "Return the frame of a payload.\n\nRaises:\n    PayloadError: it cannot be one."},
    {"encode_all", encoder_encode_all, METH_O,
     "Return the frames of all payloads, one after the other.\n\nRaises:\n    PayloadError: one cannot be a frame."},
    {"_use", encoder_use_locked, METH_O, "Encode by a framing: the bytes of a sb_framing."},
    {"_end_in_crlf", encoder_end_in_crlf_locked, METH_NOARGS, "Write CR LF behind lines."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot encoder_slots[] = {
    {Py_tp_doc, "Makes frames of payloads; sockd.buffer.encoder.PayloadEncoder is made of it."},
    {Py_tp_methods, encoder_methods},
    {Py_tp_dealloc, (void *)sockd_free},
    {0, NULL},
};

PyType_Spec sockd_encoder_spec = {
    .name = "sockd._sockbuf.FrameEncoder",
    .basicsize = sizeof(sockd_encoder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = encoder_slots,
};
