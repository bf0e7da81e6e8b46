/* What `services.batcher.bridge.host` calls. All of it runs on an application's thread, with Python's lock. */
#define _GNU_SOURCE
#include "objects.h"

#include <stdlib.h>
#include <string.h>

#include "python.h"

static const char APP[] = "infermesh.app", STREAM[] = "infermesh.stream";
enum { NAMES_KEPT = 512, NAME_LENGTH_MAX = 96, METH_FASTCALL = 0x80 };
typedef PyObject *(*fast_function)(PyObject *self, PyObject *const *arguments, ptrdiff_t count);

/* Names of headers and paths come again and again: the object made first is used again. */
struct name {
  uint64_t hash;
  uint32_t length;
  bool text;
  char *bytes;
  PyObject *object;
};
static struct name names[NAMES_KEPT];
static int names_count;

static PyObject *new_name(const char *at, uint32_t length, bool text) {
  return text ? PyUnicode_DecodeLatin1(at, length, NULL) : PyBytes_FromStringAndSize(at, length);
}

static PyObject *name_of(const char *at, uint32_t length, bool text) {
  if (length > NAME_LENGTH_MAX) return new_name(at, length, text);
  uint64_t hash = 14695981039346656037u; /* FNV-1a */
  for (uint32_t each = 0; each < length; each++) hash = (hash ^ (unsigned char)at[each]) * 1099511628211u;
  size_t place = hash % NAMES_KEPT;
  struct name *name = &names[place];
  while (name->object != NULL) {
    if (name->hash == hash && name->text == text && name->length == length && memcmp(name->bytes, at, length) == 0) {
      Py_IncRef(name->object);
      return name->object;
    }
    place = (place + 1) % NAMES_KEPT;
    name = &names[place];
  }
  PyObject *object = new_name(at, length, text);
  /* At most half of the table: callers choose paths, and may choose many. */
  char *bytes = object != NULL && names_count < NAMES_KEPT / 2 ? malloc(length + 1) : NULL;
  if (bytes != NULL) {
    memcpy(bytes, at, length);
    *name = (struct name){hash, length, text, bytes, object};
    names_count++;
    Py_IncRef(object);
  }
  return object;
}

static struct app *app_in(PyObject *capsule) { return PyCapsule_GetPointer(capsule, APP); }

static struct stream *stream_in(PyObject *capsule) { return PyCapsule_GetPointer(capsule, STREAM); }

static PyObject *none(void) {
  Py_IncRef(Py_None);
  return Py_None;
}

/* Nobody knows the stream any more: where it was not answered, nobody ever will. */
static void stream_forgotten(PyObject *capsule) {
  struct stream *stream = stream_in(capsule);
  stream->capsule = NULL;
  if (!stream->done) {
    struct reply *reply = calloc(1, sizeof *reply);
    if (reply == NULL) abort();
    reply->reset = true;
    stream_reply(stream, reply);
    stream_flush(stream);
  }
  stream_release(stream);
}

/* A new reference to what stands for the stream; NULL without an error where Python has forgotten it. */
static PyObject *stream_object(struct stream *stream, bool begins) {
  if (begins) {
    stream_keep(stream);
    stream->capsule = PyCapsule_New(stream, STREAM, stream_forgotten);
  } else if (stream->capsule != NULL) {
    Py_IncRef(stream->capsule);
  }
  return stream->capsule;
}

static bool set(PyObject *tuple, ptrdiff_t place, PyObject *item) {
  return item != NULL && PyTuple_SetItem(tuple, place, item) == 0;
}

/* Headers as a dict of bytes; `method` and `path` become new references. */
static PyObject *headers_of(const struct event *event, PyObject **method, PyObject **path) {
  PyObject *headers = PyDict_New();
  const char *at = event->data, *end = at + event->head_length;
  while (headers != NULL && at < end) {
    uint32_t lengths[2];
    memcpy(lengths, at, sizeof lengths);
    const char *name = at + sizeof lengths, *value = name + lengths[0];
    at = value + lengths[1];
    if (lengths[0] == 5 && memcmp(name, ":path", 5) == 0) {
      *path = name_of(value, lengths[1], true);
    } else if (lengths[0] == 7 && memcmp(name, ":method", 7) == 0) {
      *method = name_of(value, lengths[1], true);
    } else {
      PyObject *key = name_of(name, lengths[0], false);
      PyObject *item = PyBytes_FromStringAndSize(value, lengths[1]);
      if (key == NULL || item == NULL || PyDict_SetItem(headers, key, item) != 0) {
        Py_DecRef(headers);
        headers = NULL;
      }
      if (key != NULL) Py_DecRef(key);
      if (item != NULL) Py_DecRef(item);
    }
  }
  return headers;
}

/* (kind, stream, method, path, headers, body, complete) of what begins, else (kind, stream, data, end). */
static PyObject *event_object(const struct event *event) {
  bool begins = event->kind <= OPENED;
  PyObject *stream = event->stream != NULL ? stream_object(event->stream, begins) : none();
  if (stream == NULL) return begins ? NULL : none();
  PyObject *tuple = PyTuple_New(begins ? 7 : 4);
  if (tuple == NULL) return NULL;
  bool made = set(tuple, 0, PyLong_FromLong(event->kind)) && set(tuple, 1, stream);
  const char *body = event->data != NULL ? event->data + event->head_length : "";
  if (begins) {
    PyObject *method = NULL, *path = NULL, *headers = headers_of(event, &method, &path);
    made = made && set(tuple, 2, method != NULL ? method : name_of("", 0, true)) &&
           set(tuple, 3, path != NULL ? path : name_of("", 0, true)) &&
           set(tuple, 4, headers) && set(tuple, 5, PyBytes_FromStringAndSize(body, event->length)) &&
           set(tuple, 6, PyBool_FromLong(event->end));
  } else {
    made = made && set(tuple, 2, PyBytes_FromStringAndSize(body, event->length)) &&
           set(tuple, 3, PyBool_FromLong(event->end));
  }
  if (made) return tuple;
  Py_DecRef(tuple);
  return NULL;
}

/* take() -> list: what there is to tell, the oldest first. */
static PyObject *take(PyObject *self, PyObject *const *arguments, ptrdiff_t count) {
  (void)arguments, (void)count;
  struct app *app = app_in(self);
  PyObject *list = PyList_New(0);
  for (struct event *event = app_take(app), *next; event != NULL; event = next) {
    PyObject *object = list != NULL ? event_object(event) : NULL;
    if (object == NULL || (object != Py_None && PyList_Append(list, object) != 0)) {
      PyErr_Print();
      abort(); /* without memory callers would wait for ever; whoever watches the process starts it again */
    }
    Py_DecRef(object);
    next = event->next;
    event_free(event);
  }
  return list;
}

static size_t pairs_size(PyObject *pairs, size_t *bytes) {
  ptrdiff_t count = pairs == Py_None ? 0 : PySequence_Size(pairs);
  for (ptrdiff_t each = 0; each < count; each++) {
    PyObject *pair = PySequence_GetItem(pairs, each);
    for (ptrdiff_t part = 0; pair != NULL && part < 2; part++) {
      PyObject *item = PyTuple_GetItem(pair, part);
      char *at;
      ptrdiff_t length;
      if (item == NULL || PyBytes_AsStringAndSize(item, &at, &length) != 0) break;
      *bytes += (size_t)length;
    }
    if (pair != NULL) Py_DecRef(pair); /* `pairs` holds it */
    if (PyErr_Occurred() != NULL) return 0;
  }
  return count > 0 ? (size_t)count : 0;
}

static char *put_pairs(PyObject *pairs, size_t count, envoy_header *into, char *at) {
  for (size_t each = 0; each < count; each++) {
    PyObject *pair = PySequence_GetItem(pairs, (ptrdiff_t)each);
    char *name, *value;
    ptrdiff_t name_length, value_length;
    PyBytes_AsStringAndSize(PyTuple_GetItem(pair, 0), &name, &name_length);
    PyBytes_AsStringAndSize(PyTuple_GetItem(pair, 1), &value, &value_length);
    Py_DecRef(pair);
    into[each] = (envoy_header){at, (size_t)name_length, at + name_length, (size_t)value_length};
    memcpy(at, name, (size_t)name_length);
    memcpy(at + name_length, value, (size_t)value_length);
    at += name_length + value_length;
  }
  return at;
}

/* answer(stream, headers | None, body, trailers | None, end, told): part of an answer, sent with the next `flush`. */
static PyObject *answer(PyObject *self, PyObject *const *arguments, ptrdiff_t count) {
  (void)self;
  if (count != 6) return PyErr_SetString(PyExc_TypeError, "answer takes six arguments"), NULL;
  struct stream *stream = stream_in(arguments[0]);
  if (stream == NULL) return NULL;
  if (stream->done) return PyErr_SetString(PyExc_RuntimeError, "this request has been answered"), NULL;
  char *body;
  ptrdiff_t body_length;
  if (PyBytes_AsStringAndSize(arguments[2], &body, &body_length) != 0) return NULL;
  size_t bytes = (size_t)body_length;
  size_t headers = pairs_size(arguments[1], &bytes), trailers = pairs_size(arguments[3], &bytes);
  if (PyErr_Occurred() != NULL) return NULL;
  struct reply *reply = calloc(1, sizeof *reply + (headers + trailers) * sizeof(envoy_header) + bytes);
  if (reply == NULL) return PyErr_NoMemory();
  reply->begins = arguments[1] != Py_None;
  reply->closes = arguments[3] != Py_None;
  reply->end = PyLong_AsLong(arguments[4]) != 0;
  reply->told = PyLong_AsLong(arguments[5]) != 0;
  reply->headers_count = headers;
  reply->trailers_count = trailers;
  reply->headers = (envoy_header *)(reply + 1);
  reply->trailers = reply->headers + headers;
  char *at = (char *)(reply->trailers + trailers);
  at = put_pairs(arguments[1], headers, reply->headers, at);
  at = put_pairs(arguments[3], trailers, reply->trailers, at);
  memcpy(at, body, (size_t)body_length);
  reply->body = (envoy_bytes){at, (size_t)body_length};
  stream->done = reply->end;
  stream_reply(stream, reply);
  return none();
}

/* flush(streams): has Envoy send what was answered to these. */
static PyObject *flush(PyObject *self, PyObject *const *arguments, ptrdiff_t count) {
  (void)self;
  ptrdiff_t streams = count == 1 ? PySequence_Size(arguments[0]) : -1;
  for (ptrdiff_t each = 0; each < streams; each++) {
    PyObject *capsule = PySequence_GetItem(arguments[0], each);
    struct stream *stream = capsule != NULL ? stream_in(capsule) : NULL;
    if (stream != NULL) stream_flush(stream);
    if (capsule != NULL) Py_DecRef(capsule);
    if (stream == NULL) return NULL;
  }
  return none();
}

/* consumed(stream, count): a piece of so many bytes was read. */
static PyObject *consumed(PyObject *self, PyObject *const *arguments, ptrdiff_t count) {
  (void)self;
  struct stream *stream = count == 2 ? stream_in(arguments[0]) : NULL;
  if (stream == NULL) return PyErr_SetString(PyExc_TypeError, "consumed takes a stream and a count"), NULL;
  size_t length = (size_t)PyLong_AsLong(arguments[1]) + PIECE_COST;
  size_t before = atomic_fetch_sub(&stream->unread, length);
  if (before > UNREAD_MAX && before - length <= UNREAD_MAX) stream_schedule(stream, RESUME);
  return none();
}

/* started(paths): the application takes requests; those of `paths` are handed over piece by piece. */
static PyObject *started(PyObject *self, PyObject *const *arguments, ptrdiff_t count) {
  struct app *app = app_in(self);
  ptrdiff_t paths = count == 1 ? PySequence_Size(arguments[0]) : -1;
  if (paths > STREAMING_PATHS_MAX) return PyErr_SetString(PyExc_TypeError, "too many streaming paths"), NULL;
  for (ptrdiff_t each = 0; each < paths; each++) {
    PyObject *path = PySequence_GetItem(arguments[0], each);
    char *at;
    ptrdiff_t length;
    if (path == NULL || PyBytes_AsStringAndSize(path, &at, &length) != 0) return NULL;
    app->streaming[each] = strdup(at);
    Py_DecRef(path);
  }
  app->streaming_count = paths > 0 ? (size_t)paths : 0;
  app_started(app);
  return none();
}

static PyMethodDef methods[] = {
    {"take", (py_function)(void (*)(void))take, METH_FASTCALL, NULL},
    {"answer", (py_function)(void (*)(void))answer, METH_FASTCALL, NULL},
    {"flush", (py_function)(void (*)(void))flush, METH_FASTCALL, NULL},
    {"consumed", (py_function)(void (*)(void))consumed, METH_FASTCALL, NULL},
    {"started", (py_function)(void (*)(void))started, METH_FASTCALL, NULL},
};
enum { METHODS = sizeof methods / sizeof *methods };

bool objects_run(struct app *app, const char *application) {
  PyObject *host = PyImport_ImportModule("services.batcher.bridge.host");
  PyObject *run = host != NULL ? PyObject_GetAttrString(host, "run") : NULL;
  PyObject *self = PyCapsule_New(app, APP, NULL), *arguments = PyTuple_New(METHODS + 2), *done = NULL;
  bool made = run != NULL && self != NULL && arguments != NULL &&
              set(arguments, 0, PyUnicode_DecodeLatin1(application, (ptrdiff_t)strlen(application), NULL)) &&
              set(arguments, 1, PyLong_FromLong(app->wake));
  for (ptrdiff_t each = 0; made && each < METHODS; each++)
    made = set(arguments, each + 2, PyCFunction_NewEx(&methods[each], self, NULL));
  if (made) done = PyObject_CallObject(run, arguments);
  if (done != NULL) Py_DecRef(done);
  if (arguments != NULL) Py_DecRef(arguments);
  if (self != NULL) Py_DecRef(self);
  if (run != NULL) Py_DecRef(run);
  if (host != NULL) Py_DecRef(host);
  return done != NULL;
}
