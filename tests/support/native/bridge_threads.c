/* The bridge's threads without Envoy and Python: two of Envoy's, one of Python's, and thousands of requests that are
 * answered, given up and let go while others are. Fails where one that nobody gave up is not answered in time, or where
 * Envoy is told something of a filter that it has let go of. */
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "bridge.h"

enum { THREADS = 2, AT_ONCE = 24, REQUESTS = 60000, PATIENCE_S = 10, HELD_MAX = 4 * THREADS * AT_ONCE };

const void *HOOK(http_filter_new)(const void *app, void *filter);
int HOOK(http_filter_request_headers)(void *filter, const void *module, bool end);
int HOOK(http_filter_request_body)(void *filter, const void *module, bool end);
void HOOK(http_filter_scheduled)(void *filter, const void *module, uint64_t what);
void HOOK(http_filter_destroy)(const void *module);

struct filter {
  struct thread *thread;
  const void *module;
  bool alive, begun, patient;
  time_t born;
};
struct post {
  struct post *next;
  struct filter *filter;
  uint64_t what;
};
struct thread {
  pthread_mutex_t lock;
  struct post *first, **last; /* guarded by `lock` */
  unsigned luck;
  long answered, given_up;
};

static struct thread threads[THREADS];
static struct app app;
static atomic_bool over;
static atomic_int held_count; /* requests that Python has yet to answer, given up or not */

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  _Exit(1);
}

static void let_go(struct filter *filter) {
  filter->alive = false;
  HOOK(http_filter_destroy)(filter->module);
}

static bool gives_up(struct filter *filter, int one_of) {
  if (filter->patient || rand_r(&filter->thread->luck) % one_of != 0) return false;
  filter->thread->given_up++;
  let_go(filter);
  return true;
}

/* As Envoy does: what ends an answer ends the filter before the call returns, and anything else may. */
static void answered(struct filter *filter, bool end) {
  if (!filter->alive) fail("an answer for a filter that is gone");
  if (!end) {
    gives_up(filter, 20);
    return;
  }
  filter->thread->answered++;
  let_go(filter);
}

size_t ENVOY(http_get_headers_size)(void *filter, int which) { return (void)filter, (void)which, 2; }
bool ENVOY(http_get_headers)(void *filter, int which, envoy_header *into) {
  (void)filter, (void)which;
  into[0] = (envoy_header){":path", 5, "/x", 2};
  into[1] = (envoy_header){":method", 7, "POST", 4};
  return true;
}
size_t ENVOY(http_get_body_chunks_size)(void *filter, int which) { return (void)filter, (void)which, 1; }
bool ENVOY(http_get_body_chunks)(void *filter, int which, envoy_bytes *into) {
  (void)filter, (void)which;
  into[0] = (envoy_bytes){"body", 4};
  return true;
}
void ENVOY(http_set_buffer_limit)(void *filter, uint64_t limit) { (void)filter, (void)limit; }
bool ENVOY(http_drain_body)(void *filter, int which, size_t length) { return (void)filter, (void)which, length > 0; }
bool ENVOY(http_filter_get_attribute_string)(void *filter, int attribute, envoy_bytes *into) {
  return (void)filter, (void)attribute, (void)into, false;
}
void ENVOY(http_send_response_headers)(void *filter, envoy_header *headers, size_t count, bool end) {
  (void)headers, (void)count;
  struct filter *of = filter;
  if (of->begun) fail("two answers");
  of->begun = true;
  answered(of, end);
}
void ENVOY(http_send_response_data)(void *filter, envoy_bytes data, bool end) { (void)data, answered(filter, end); }
void ENVOY(http_send_response_trailers)(void *filter, envoy_header *trailers, size_t count) {
  (void)trailers, (void)count;
  answered(filter, true);
}
void ENVOY(http_filter_reset_stream)(void *filter, int reason, envoy_bytes details) {
  (void)reason, (void)details;
  answered(filter, true);
}
void *ENVOY(http_filter_scheduler_new)(void *filter) {
  void **scheduler = malloc(sizeof *scheduler);
  *scheduler = filter;
  return scheduler;
}
void ENVOY(http_filter_scheduler_commit)(void *scheduler, uint64_t what) {
  struct filter *filter = *(void **)scheduler;
  struct post *post = malloc(sizeof *post);
  *post = (struct post){NULL, filter, what};
  pthread_mutex_lock(&filter->thread->lock);
  *filter->thread->last = post;
  filter->thread->last = &post->next;
  pthread_mutex_unlock(&filter->thread->lock);
}
void ENVOY(http_filter_scheduler_delete)(void *scheduler) { free(scheduler); }

static void run_posts(struct thread *thread) {
  pthread_mutex_lock(&thread->lock);
  struct post *post = thread->first, *next;
  thread->first = NULL;
  thread->last = &thread->first;
  pthread_mutex_unlock(&thread->lock);
  for (; post != NULL; post = next) {
    next = post->next;
    if (post->filter->alive) HOOK(http_filter_scheduled)(post->filter, post->filter->module, post->what);
    free(post);
  }
}

static struct filter *arrive(struct thread *thread, struct filter *filter, bool patient) {
  *filter = (struct filter){.thread = thread, .alive = true, .patient = patient, .born = time(NULL)};
  filter->module = HOOK(http_filter_new)(&app, filter);
  atomic_fetch_add(&held_count, 1);
  bool whole = rand_r(&thread->luck) % 2;
  HOOK(http_filter_request_headers)(filter, filter->module, whole);
  if (!whole) HOOK(http_filter_request_body)(filter, filter->module, true);
  /* With what it has just scheduled. */
  gives_up(filter, 4);
  return filter;
}

static void *envoy(void *argument) {
  struct thread *thread = argument;
  /* One for each request: what is scheduled may name those that are long gone. */
  struct filter *filters = calloc(REQUESTS, sizeof *filters), *live[AT_ONCE] = {NULL};
  for (int begun = 0, left = 1; begun < REQUESTS || left > 0;) {
    run_posts(thread);
    left = 0;
    for (int place = 0; place < AT_ONCE; place++) {
      struct filter *filter = live[place];
      if (filter != NULL && !filter->alive) filter = live[place] = NULL;
      if (filter == NULL) {
        if (begun < REQUESTS && atomic_load(&held_count) < HELD_MAX - THREADS) live[place] = arrive(thread, &filters[begun++], place % 2);
      } else if (!gives_up(filter, 1000) && time(NULL) - filter->born > PATIENCE_S) {
        fail("a request was not answered");
      }
      left += live[place] != NULL;
    }
  }
  run_posts(thread);
  return NULL;
}

static void send_part(struct stream *stream, bool begins, bool end, unsigned *luck) {
  struct reply *reply = calloc(1, sizeof *reply + 8);
  reply->begins = begins;
  reply->end = end;
  reply->closes = end && rand_r(luck) % 2;
  reply->reset = rand_r(luck) % 10 == 0;
  reply->body = (envoy_bytes){(char *)(reply + 1), 8};
  bool reset = reply->reset;
  stream_reply(stream, reply);
  stream_flush(stream);
  if (reset || end) return;
  if (rand_r(luck) % 2) sched_yield();
  send_part(stream, false, true, luck);
}

static void *python(void *argument) {
  (void)argument;
  struct stream *held[HELD_MAX];
  unsigned luck = 7;
  for (int count = 0; !atomic_load(&over) || count > 0;) {
    struct pollfd wake = {.fd = app.wake, .events = POLLIN};
    /* Nothing is taken but by those who were woken: who is not told has missed it. */
    bool woken = poll(&wake, 1, 1) > 0;
    for (struct event *event = woken ? app_take(&app) : NULL, *next; event != NULL; event = next) {
      next = event->next;
      if (event->kind == WHOLE) {
        stream_keep(held[count++] = event->stream);
      }
      event_free(event);
    }
    for (int place = 0; place < count;) {
      if (rand_r(&luck) % 2) {
        place++;
        continue;
      }
      struct stream *stream = held[place];
      held[place] = held[--count];
      send_part(stream, true, rand_r(&luck) % 2, &luck);
      stream_release(stream);
      atomic_fetch_sub(&held_count, 1);
    }
  }
  return NULL;
}

int main(void) {
  pthread_t envoys[THREADS], one;
  app.wake = eventfd(0, EFD_NONBLOCK);
  for (int each = 0; each < THREADS; each++) {
    threads[each] = (struct thread){.lock = PTHREAD_MUTEX_INITIALIZER, .luck = (unsigned)each + 1};
    threads[each].last = &threads[each].first;
  }
  pthread_create(&one, NULL, python, NULL);
  for (int each = 0; each < THREADS; each++) pthread_create(&envoys[each], NULL, envoy, &threads[each]);
  for (int each = 0; each < THREADS; each++) pthread_join(envoys[each], NULL);
  atomic_store(&over, true);
  pthread_join(one, NULL);
  long answers = 0, given_up = 0;
  for (int each = 0; each < THREADS; each++) answers += threads[each].answered, given_up += threads[each].given_up;
  printf("%ld answered, %ld given up\n", answers, given_up);
  return answers + given_up == (long)THREADS * REQUESTS ? 0 : 1;
}
