/* What the bridge uses of Python's stable interface (PEP 384), so that building it needs no headers of Python's, and
 * one library serves every version. https://docs.python.org/3/c-api/stable.html */
#ifndef INFERMESH_PYTHON_H
#define INFERMESH_PYTHON_H

#include <stddef.h>

typedef struct _object PyObject;
typedef struct _state PyThreadState;
typedef PyObject *(*py_function)(PyObject *self, PyObject *arguments);
typedef struct {
  const char *name;
  py_function call;
  int flags;
  const char *doc;
} PyMethodDef;

enum { METH_VARARGS = 1 };

void Py_InitializeEx(int signals);
PyThreadState *PyEval_SaveThread(void);
void PyEval_RestoreThread(PyThreadState *state);
int PyGILState_Ensure(void);
void PyGILState_Release(int state);
void Py_IncRef(PyObject *object);
void Py_DecRef(PyObject *object);
PyObject *PyImport_ImportModule(const char *name);
PyObject *PyObject_GetAttrString(PyObject *object, const char *name);
PyObject *PyObject_CallObject(PyObject *callable, PyObject *arguments);
PyObject *PyCFunction_NewEx(PyMethodDef *method, PyObject *self, PyObject *module);
PyObject *PyCapsule_New(void *pointer, const char *name, void (*gone)(PyObject *));
void *PyCapsule_GetPointer(PyObject *capsule, const char *name);
PyObject *PyBytes_FromStringAndSize(const char *from, ptrdiff_t length);
int PyBytes_AsStringAndSize(PyObject *bytes, char **at, ptrdiff_t *length);
PyObject *PyUnicode_DecodeLatin1(const char *from, ptrdiff_t length, const char *errors);
PyObject *PyLong_FromLong(long number);
long PyLong_AsLong(PyObject *number);
PyObject *PyBool_FromLong(long number);
PyObject *PyDict_New(void);
int PyDict_SetItem(PyObject *dict, PyObject *key, PyObject *value);
PyObject *PyList_New(ptrdiff_t length);
int PyList_Append(PyObject *list, PyObject *item);
PyObject *PyTuple_New(ptrdiff_t length);
int PyTuple_SetItem(PyObject *tuple, ptrdiff_t place, PyObject *item);
PyObject *PyTuple_GetItem(PyObject *tuple, ptrdiff_t place);
ptrdiff_t PyTuple_Size(PyObject *tuple);
PyObject *PySequence_GetItem(PyObject *sequence, ptrdiff_t place);
ptrdiff_t PySequence_Size(PyObject *sequence);
PyObject *PyErr_Occurred(void);
void PyErr_SetString(PyObject *kind, const char *message);
PyObject *PyErr_NoMemory(void);
void PyErr_Print(void);
void PyErr_WriteUnraisable(PyObject *context);
extern PyObject *PyExc_RuntimeError;
extern PyObject *PyExc_TypeError;
extern PyObject _Py_NoneStruct;

#define Py_None (&_Py_NoneStruct)

#endif
