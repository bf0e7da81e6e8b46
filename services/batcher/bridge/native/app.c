/* Applications: the interpreter, a thread for each, their beginning and their end. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "bridge.h"
#include "objects.h"
#include "python.h"

enum { START_S = 60, STOP_S = 15 };

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void begin_interpreter(void) {
  Py_InitializeEx(0); /* signals are the application's to take */
  /* Whichever thread imports it first is the main one, and nothing else may be: main threads take signals. */
  PyObject *threading = PyImport_ImportModule("threading");
  if (threading == NULL) PyErr_Print();
  PyEval_SaveThread();
}

static void change(struct app *app, bool *what) {
  pthread_mutex_lock(&app->lock);
  *what = true;
  pthread_cond_broadcast(&app->changed);
  pthread_mutex_unlock(&app->lock);
}

/* Waits until the application has started or ended; false when the time is over. */
static bool await(struct app *app, bool *what, time_t seconds) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += seconds;
  int failed = 0;
  pthread_mutex_lock(&app->lock);
  while (!*what && !app->ended && failed == 0) failed = pthread_cond_timedwait(&app->changed, &app->lock, &until);
  bool reached = *what;
  pthread_mutex_unlock(&app->lock);
  return reached;
}

void app_started(struct app *app) { change(app, &app->started); }

static void *run(void *argument) {
  struct app *app = argument;
  int state = PyGILState_Ensure();
  if (!objects_run(app, app->name)) PyErr_Print();
  PyGILState_Release(state);
  pthread_mutex_lock(&app->lock);
  bool deserted = app->started && !app->stopping;
  pthread_mutex_unlock(&app->lock);
  if (deserted) {
    /* Nobody would ever answer what Envoy goes on to take; whoever watches the process starts it again. */
    fprintf(stderr, "%s ended by itself, and the process with it; what it said is above\n", app->name);
    _exit(1);
  }
  change(app, &app->ended);
  return NULL;
}

struct app *app_start(envoy_bytes name) {
  pthread_once(&once, begin_interpreter);
  struct app *app = calloc(1, sizeof *app);
  if (app == NULL) return NULL;
  app->starter = pthread_self();
  app->name = strndup(name.at, name.length);
  app->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  pthread_condattr_t clock;
  pthread_condattr_init(&clock);
  pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
  pthread_mutex_init(&app->lock, NULL);
  pthread_cond_init(&app->changed, &clock);
  pthread_condattr_destroy(&clock);
  pthread_t thread;
  if (app->name == NULL || app->wake < 0 || pthread_create(&thread, NULL, run, app) != 0) return NULL;
  /* As `ps -L` and the benchmarks show it: py:app for services.batcher.app:app. */
  char title[16];
  const char *attribute = strrchr(app->name, ':');
  snprintf(title, sizeof title, "py:%s", attribute != NULL ? attribute + 1 : app->name);
  pthread_setname_np(thread, title);
  pthread_detach(thread);
  if (await(app, &app->started, START_S)) return app;
  fprintf(stderr, "%s did not start; what it said is above\n", app->name);
  return NULL; /* and stays: its thread may still be at it */
}

void app_stop(struct app *app) {
  change(app, &app->stopping);
  app_tell(app, NULL, ENDING, NULL, 0, 0, true);
  app_wake(app);
  /* The last request of a replaced listener may let go of it, on a thread that has others to see to. */
  if (!pthread_equal(pthread_self(), app->starter)) return;
  if (!await(app, &app->ended, STOP_S)) {
    fprintf(stderr, "%s did not end within %d seconds and is left behind\n", app->name, STOP_S);
    return;
  }
  /* Objects of Python's may still name it, so the little that is left of it stays. */
  close(app->wake);
  app->wake = -1;
}
