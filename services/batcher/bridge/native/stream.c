/* Streams, and what is told of them. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge.h"

/* Never freed: Python may still hold streams of a thread that has ended. */
static struct worker *this_worker(void) {
  static __thread struct worker *worker;
  if (worker == NULL) worker = calloc(1, sizeof *worker);
  if (worker == NULL) abort();
  return worker;
}

struct stream *stream_new(struct app *app, void *filter) {
  struct stream *stream = calloc(1, sizeof *stream);
  if (stream == NULL) return NULL;
  stream->app = app;
  stream->worker = this_worker();
  stream->filter = filter;
  stream->scheduler = ENVOY(http_filter_scheduler_new)(filter);
  stream->last = &stream->first;
  atomic_init(&stream->references, 1);
  pthread_mutex_init(&stream->lock, NULL);
  return stream;
}

void stream_keep(struct stream *stream) {
  atomic_fetch_add_explicit(&stream->references, 1, memory_order_relaxed);
}

void stream_release(struct stream *stream) {
  if (atomic_fetch_sub_explicit(&stream->references, 1, memory_order_acq_rel) != 1) return;
  while (stream->first != NULL) {
    struct reply *next = stream->first->next;
    free(stream->first);
    stream->first = next;
  }
  free(stream->head);
  free(stream->body);
  pthread_mutex_destroy(&stream->lock);
  free(stream);
}

bool stream_schedule(struct stream *stream, uint64_t what) {
  /* Under the lock: Envoy's thread, and what it schedules with, may end as soon as the filter is gone. */
  pthread_mutex_lock(&stream->lock);
  bool there = stream->scheduler != NULL;
  if (there && what == ANSWER) atomic_fetch_add(&stream->posts, 1);
  if (there) ENVOY(http_filter_scheduler_commit)(stream->scheduler, what);
  pthread_mutex_unlock(&stream->lock);
  return there;
}

static void list(struct stream *stream) {
  if (atomic_exchange(&stream->listed, true)) return;
  struct worker *worker = stream->worker;
  stream_keep(stream);
  stream->next = atomic_load(&worker->answered);
  while (!atomic_compare_exchange_weak(&worker->answered, &stream->next, stream)) {
  }
}

void stream_flush(struct stream *stream) {
  struct worker *worker = stream->worker;
  list(stream);
  /* Once for all that are listed until the thread looks. Where this one is gone nobody misses its answer. Two of
   * Python's threads never come here at a time: they hold its lock. */
  if (!atomic_exchange(&worker->posted, true) && !stream_schedule(stream, ANSWER)) atomic_store(&worker->posted, false);
}

struct stream *worker_take(struct worker *worker) {
  /* In this order: who lists itself after the second sees the first, and tells the thread again. */
  atomic_store(&worker->posted, false);
  struct stream *newest = atomic_exchange(&worker->answered, NULL), *oldest = NULL;
  while (newest != NULL) {
    struct stream *next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  return oldest;
}

void worker_check(struct worker *worker) {
  struct stream *there = NULL;
  for (struct stream *stream = worker_take(worker), *next; stream != NULL; stream = next) {
    next = stream->next;
    atomic_store(&stream->listed, false);
    if (stream->filter != NULL) list(there = stream);
    stream_release(stream);
  }
  if (there == NULL) return;
  atomic_store(&worker->posted, true);
  /* Whatever Python made of `posted` meanwhile: at worst the thread looks twice. */
  stream_schedule(there, ANSWER);
}

void stream_reply(struct stream *stream, struct reply *reply) {
  reply->next = NULL;
  pthread_mutex_lock(&stream->lock);
  bool there = stream->filter != NULL;
  if (there) {
    *stream->last = reply;
    stream->last = &reply->next;
  }
  pthread_mutex_unlock(&stream->lock);
  if (!there) free(reply); /* now: its stream may be listed for long before anybody looks */
}

void app_tell(struct app *app, struct stream *stream, enum kind kind, char *data, size_t head, size_t body, bool end) {
  struct event *event = malloc(sizeof *event);
  if (event == NULL) abort(); /* Envoy does the same: nothing sensible can be done without memory */
  if (stream != NULL) stream_keep(stream);
  *event = (struct event){.stream = stream, .kind = kind, .end = end, .head_length = head, .length = body, .data = data};
  event->next = atomic_load_explicit(&app->events, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(&app->events, &event->next, event, memory_order_acq_rel,
                                                memory_order_relaxed)) {
  }
}

void app_wake(struct app *app) {
  if (atomic_load_explicit(&app->events, memory_order_acquire) == NULL) return;
  if (atomic_exchange(&app->woken, true)) return;
  uint64_t one = 1;
  /* It fails only when the count is at its limit, and then Python is being woken anyway. */
  ssize_t written = write(app->wake, &one, sizeof one);
  (void)written;
}

struct event *app_take(struct app *app) {
  uint64_t count;
  ssize_t got = read(app->wake, &count, sizeof count);
  (void)got; /* nothing to read: somebody asks without having been woken */
  atomic_store(&app->woken, false);
  struct event *newest = atomic_exchange_explicit(&app->events, NULL, memory_order_acq_rel), *oldest = NULL;
  while (newest != NULL) {
    struct event *next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  return oldest;
}

void event_free(struct event *event) {
  if (event->stream != NULL) stream_release(event->stream);
  free(event->data);
  free(event);
}
