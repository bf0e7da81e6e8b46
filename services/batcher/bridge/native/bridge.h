/* Requests on their way between Envoy's threads and the one thread of Python.
 *
 * Envoy's threads never take Python's lock. A request is handed over whole, many at a time, and wakes Python once for
 * all that Envoy has read in one go; answers go back the same way. */
#ifndef INFERMESH_BRIDGE_H
#define INFERMESH_BRIDGE_H

#include <pthread.h>
#include <stdatomic.h>

#include "envoy.h"

/* The largest body that is handed over whole: the services' own bound and a gRPC frame's header. */
enum { BODY_MAX = 12 * 1024 * 1024 + 5 };
/* What a stream may send before Python has read it; as much again waits in Envoy, then HTTP/2 holds the caller back. */
enum { UNREAD_MAX = 256 * 1024 };
/* What keeping a piece costs beside its bytes: a caller may send them one by one. */
enum { PIECE_COST = 64 };
enum { STREAMING_PATHS_MAX = 16 };

/* What Python is told; `services.batcher.bridge.host` has the same numbers. */
enum kind { WHOLE = 0, TOO_LARGE = 1, OPENED = 2, DATA = 3, GONE = 4, WRITABLE = 5, ENDING = 6 };

/* What is scheduled on a stream's own thread. */
enum { ANSWER = 0, KICK = 1, RESUME = 2 };

struct stream;

/* Something for Python. `head` of a request: its headers one after the other. */
struct event {
  struct event *next;
  struct stream *stream;
  enum kind kind;
  bool end;
  size_t head_length;
  size_t length;
  char *data; /* `head_length` bytes of headers, then `length` of body; NULL: none */
};

/* Part of an answer, or all of it. */
struct reply {
  struct reply *next;
  bool begins; /* `headers` are sent */
  bool closes; /* `trailers` are sent */
  bool end;
  bool told; /* Python waits until more may be sent */
  bool reset;
  size_t headers_count, trailers_count;
  envoy_header *headers, *trailers;
  envoy_bytes body;
};

/* One application: a thread of Python's with a loop of its own. */
struct app {
  char *name;
  int wake; /* an eventfd */
  _Atomic(struct event *) events; /* the newest first */
  atomic_bool woken;
  const char *streaming[STREAMING_PATHS_MAX];
  size_t streaming_count;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool started, stopping, ended; /* guarded by `lock` */
  pthread_t starter;             /* Envoy's main thread */
};

/* One of Envoy's threads. */
struct worker {
  _Atomic(struct stream *) answered; /* streams with something to send, the newest first */
  atomic_bool posted;                /* the thread will look at them */
};

struct stream {
  struct app *app;
  struct worker *worker;
  struct stream *next; /* among the answered of its thread */
  atomic_bool listed;  /* it is among them */
  atomic_int posts;    /* how often its thread will look at the answered on its behalf */
  atomic_int references;
  pthread_mutex_t lock;
  void *filter;    /* guarded by `lock` for others than Envoy's thread; NULL once Envoy has let go of it */
  void *scheduler; /* likewise */
  struct reply *first, **last; /* guarded by `lock` */
  atomic_size_t unread;
  /* Envoy's thread alone: */
  bool streaming, handed, complete, answered, paused, owed, headers_only;
  int above; /* how often Envoy's buffer for the answer has become too full, and not yet empty enough */
  char *head, *body;
  size_t head_length, body_length, body_room;
  /* Python's thread alone: */
  void *capsule; /* a borrowed reference to what stands for it there */
  bool done;     /* its answer is complete */
};

struct stream *stream_new(struct app *app, void *filter);
void stream_keep(struct stream *stream);
void stream_release(struct stream *stream);
/* Schedules `what` on the stream's own thread; false where the stream is gone. Any thread. */
bool stream_schedule(struct stream *stream, uint64_t what);
/* Takes `reply` over. Any thread. */
void stream_reply(struct stream *stream, struct reply *reply);
/* Has Envoy send what was replied to the stream, with all else that is to be sent on its thread. Any thread. */
void stream_flush(struct stream *stream);
/* All streams with something to send, the oldest first; the caller releases each. The thread itself. */
struct stream *worker_take(struct worker *worker);
/* Sees to what is to be sent after a stream has gone on whose behalf the thread was to look. The thread itself. */
void worker_check(struct worker *worker);

/* Takes `data` over, and a reference to the stream. */
void app_tell(struct app *app, struct stream *stream, enum kind kind, char *data, size_t head, size_t body, bool end);
/* Wakes Python where there is something to tell. */
void app_wake(struct app *app);
/* All that there is to tell, the oldest first; the caller frees each with `event_free`. */
struct event *app_take(struct app *app);
void event_free(struct event *event);

/* Starts the thread of an application and waits until it takes requests. NULL where it does not. */
struct app *app_start(envoy_bytes name);
/* Has it end, and waits for that, within a bound. */
void app_stop(struct app *app);

#endif
