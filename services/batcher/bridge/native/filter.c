/* What Envoy tells a filter, on the thread that the stream belongs to. */
#include <stdlib.h>
#include <string.h>

#include "bridge.h"

enum { HEADERS_MAX = 128, CHUNKS_MAX = 64 };

/* Whoever wakes Python when Envoy has read all that there is to read now; one on each of Envoy's threads. */
static __thread struct stream *kicker;

static void kick_later(struct stream *stream) {
  if (kicker == NULL) {
    kicker = stream;
    ENVOY(http_filter_scheduler_commit)(stream->scheduler, KICK);
  } else if (kicker->app != stream->app) {
    app_wake(stream->app);
  }
}

static char *put(char *at, const void *from, size_t length) {
  memcpy(at, from, length);
  return at + length;
}

static bool is(const char *at, size_t length, const char *text) {
  return length == strlen(text) && memcmp(at, text, length) == 0;
}

/* Keeps the request's headers as pairs of lengths and bytes. */
static void keep_head(struct stream *stream, bool with_source) {
  envoy_header few[HEADERS_MAX], *headers = few;
  size_t count = ENVOY(http_get_headers_size)(stream->filter, REQUEST_HEADERS), length = 0;
  if (count > HEADERS_MAX - 1) {
    headers = malloc((count + 1) * sizeof *headers);
    if (headers == NULL) abort();
  }
  if (!ENVOY(http_get_headers)(stream->filter, REQUEST_HEADERS, headers)) count = 0;
  envoy_bytes source = {NULL, 0};
  if (with_source &&
      ENVOY(http_filter_get_attribute_string)(stream->filter, ATTRIBUTE_SOURCE_ADDRESS, &source)) {
    static const char name[] = ":source-address";
    headers[count++] = (envoy_header){name, sizeof name - 1, source.at, source.length};
  }
  for (size_t each = 0; each < count; each++)
    length += 2 * sizeof(uint32_t) + headers[each].name_length + headers[each].value_length;
  char *at = stream->head = malloc(length ? length : 1);
  if (at == NULL) abort();
  stream->head_length = length;
  for (size_t each = 0; each < count; each++) {
    uint32_t lengths[2] = {(uint32_t)headers[each].name_length, (uint32_t)headers[each].value_length};
    at = put(at, lengths, sizeof lengths);
    at = put(at, headers[each].name, lengths[0]);
    at = put(at, headers[each].value, lengths[1]);
    if (is(headers[each].name, lengths[0], ":path"))
      for (size_t known = 0; known < stream->app->streaming_count; known++)
        stream->streaming |= is(headers[each].value, lengths[1], stream->app->streaming[known]);
    else if (is(headers[each].name, lengths[0], ":method"))
      stream->headers_only = is(headers[each].value, lengths[1], "HEAD");
  }
  if (headers != few) free(headers);
}

static void hand_over(struct stream *stream, enum kind kind, bool end) {
  /* One block, headers first: Python makes objects of both at once. */
  char *data = realloc(stream->head, stream->head_length + stream->body_length + 1);
  if (data == NULL) abort();
  if (stream->body_length) memcpy(data + stream->head_length, stream->body, stream->body_length);
  free(stream->body);
  stream->head = stream->body = NULL;
  stream->handed = true;
  app_tell(stream->app, stream, kind, data, stream->head_length, stream->body_length, end);
  stream->body_length = 0;
  kick_later(stream);
}

/* Appends what Envoy has of the body; false where it becomes too large. */
static bool keep_body(struct stream *stream, int which) {
  envoy_bytes few[CHUNKS_MAX], *chunks = few;
  size_t count = ENVOY(http_get_body_chunks_size)(stream->filter, which), length = 0;
  if (count == 0) return true;
  if (count > CHUNKS_MAX) {
    chunks = malloc(count * sizeof *chunks);
    if (chunks == NULL) abort();
  }
  if (!ENVOY(http_get_body_chunks)(stream->filter, which, chunks)) count = 0;
  for (size_t each = 0; each < count; each++) length += chunks[each].length;
  bool fits = stream->body_length + length <= BODY_MAX;
  if (fits && stream->body_length + length > stream->body_room) {
    size_t room = stream->body_length + length;
    if (stream->body_length) room *= 2; /* it comes in many pieces */
    stream->body = realloc(stream->body, room);
    if (stream->body == NULL) abort();
    stream->body_room = room;
  }
  for (size_t each = 0; fits && each < count; each++) {
    memcpy(stream->body + stream->body_length, chunks[each].at, chunks[each].length);
    stream->body_length += chunks[each].length;
  }
  if (chunks != few) free(chunks);
  return fits;
}

/* Tells Python what a streaming caller has sent. */
static void pass_on(struct stream *stream, bool end) {
  if (stream->body_length) atomic_fetch_add(&stream->unread, stream->body_length + PIECE_COST);
  app_tell(stream->app, stream, DATA, stream->body, 0, stream->body_length, end);
  stream->body = NULL;
  stream->body_length = stream->body_room = 0;
  kick_later(stream);
}

static void tell_writable(struct stream *stream) {
  stream->owed = stream->above > 0;
  if (stream->owed) return;
  app_tell(stream->app, stream, WRITABLE, NULL, 0, 0, false);
  kick_later(stream);
}

static void send(struct stream *stream, struct reply *reply) {
  envoy_bytes nothing = {"", 0};
  if (reply->reset) {
    stream->answered = true;
    ENVOY(http_filter_reset_stream)(stream->filter, LOCAL_RESET, nothing);
    return;
  }
  bool has_body = reply->body.length > 0 || (reply->end && !reply->begins && !reply->closes);
  bool body_ends = reply->end && !reply->closes;
  stream->answered = reply->end; /* before: what ends the answer may end the filter at once */
  if (stream->headers_only) {
    /* Envoy would send a body all the same, and the caller take it for the next answer. */
    if (reply->begins) ENVOY(http_send_response_headers)(stream->filter, reply->headers, reply->headers_count, true);
    return;
  }
  if (reply->begins)
    ENVOY(http_send_response_headers)(stream->filter, reply->headers, reply->headers_count, body_ends && !has_body);
  if (has_body && stream->filter != NULL) ENVOY(http_send_response_data)(stream->filter, reply->body, body_ends);
  if (reply->closes && stream->filter != NULL)
    ENVOY(http_send_response_trailers)(stream->filter, reply->trailers, reply->trailers_count);
  if (reply->told && stream->filter != NULL) tell_writable(stream);
}

static void answer(struct stream *stream) {
  stream_keep(stream);
  while (stream->filter != NULL) {
    pthread_mutex_lock(&stream->lock);
    struct reply *reply = stream->first;
    if (reply != NULL && (stream->first = reply->next) == NULL) stream->last = &stream->first;
    pthread_mutex_unlock(&stream->lock);
    if (reply == NULL) break;
    send(stream, reply);
    free(reply);
  }
  stream_release(stream);
}

static void resume(struct stream *stream) {
  if (!stream->paused || stream->filter == NULL) return;
  stream->paused = false;
  keep_body(stream, BUFFERED_REQUEST_BODY);
  if (stream->body_length) ENVOY(http_drain_body)(stream->filter, BUFFERED_REQUEST_BODY, stream->body_length);
  pass_on(stream, stream->complete);
}

EXPORTED const void *HOOK(http_filter_new)(const void *app, void *filter) {
  return stream_new((struct app *)app, filter);
}

EXPORTED int HOOK(http_filter_request_headers)(void *filter, const void *module, bool end) {
  (void)filter;
  struct stream *stream = (struct stream *)module;
  keep_head(stream, end);
  stream->complete = end;
  if (stream->streaming) {
    ENVOY(http_set_buffer_limit)(stream->filter, UNREAD_MAX);
    hand_over(stream, OPENED, end);
  } else if (end)
    hand_over(stream, WHOLE, true);
  return HEADERS_STOP;
}

EXPORTED int HOOK(http_filter_request_body)(void *filter, const void *module, bool end) {
  (void)filter;
  struct stream *stream = (struct stream *)module;
  stream->complete = end;
  if (stream->streaming) {
    stream->paused = stream->paused || atomic_load(&stream->unread) > UNREAD_MAX;
    if (stream->paused) return BODY_STOP_AND_WATERMARK;
    keep_body(stream, RECEIVED_REQUEST_BODY);
    pass_on(stream, end);
  } else if (!stream->handed) {
    if (!keep_body(stream, RECEIVED_REQUEST_BODY))
      hand_over(stream, TOO_LARGE, end);
    else if (end)
      hand_over(stream, WHOLE, true);
  }
  return BODY_STOP_NO_BUFFER;
}

EXPORTED int HOOK(http_filter_request_trailers)(void *filter, const void *module) {
  (void)filter;
  struct stream *stream = (struct stream *)module;
  stream->complete = true;
  if (stream->streaming) {
    if (!stream->paused) pass_on(stream, true);
  } else if (!stream->handed) {
    hand_over(stream, WHOLE, true);
  }
  return TRAILERS_STOP;
}

static void answer_all(struct worker *worker) {
  for (struct stream *stream = worker_take(worker), *next; stream != NULL; stream = next) {
    next = stream->next;
    /* Before: what is replied while it sends lists it again. */
    atomic_store(&stream->listed, false);
    answer(stream);
    stream_release(stream);
  }
}

EXPORTED void HOOK(http_filter_scheduled)(void *filter, const void *module, uint64_t what) {
  (void)filter;
  struct stream *stream = (struct stream *)module;
  if (what == ANSWER) {
    atomic_fetch_sub(&stream->posts, 1);
    answer_all(stream->worker);
  } else if (what == KICK) {
    if (kicker == stream) kicker = NULL;
    app_wake(stream->app);
  } else {
    resume(stream);
  }
}

EXPORTED void HOOK(http_filter_destroy)(const void *module) {
  struct stream *stream = (struct stream *)module;
  pthread_mutex_lock(&stream->lock);
  ENVOY(http_filter_scheduler_delete)(stream->scheduler);
  stream->scheduler = stream->filter = NULL;
  pthread_mutex_unlock(&stream->lock);
  if (stream->handed && !stream->answered) {
    app_tell(stream->app, stream, GONE, NULL, 0, 0, true);
    app_wake(stream->app);
  }
  if (kicker == stream) {
    kicker = NULL;
    app_wake(stream->app);
  }
  /* What was scheduled with it will not come. Also where nothing is listed: Python may be about to, and believe the
   * thread told. */
  if (atomic_load(&stream->posts) > 0) worker_check(stream->worker);
  stream_release(stream);
}

EXPORTED void HOOK(http_filter_downstream_above_write_buffer_high_watermark)(void *filter, const void *module) {
  (void)filter;
  /* NULL: Envoy tells some that are not made yet, or no more. */
  if (module != NULL) ((struct stream *)module)->above++;
}

EXPORTED void HOOK(http_filter_downstream_below_write_buffer_low_watermark)(void *filter, const void *module) {
  (void)filter;
  struct stream *stream = (struct stream *)module;
  if (stream == NULL || stream->above == 0) return;
  stream->above--;
  if (stream->owed) tell_writable(stream);
}
