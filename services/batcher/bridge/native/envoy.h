/* What the bridge uses of Envoy's interface for dynamic modules, version v0.1.0.
 *
 * Envoy documents it in source/extensions/dynamic_modules/abi/abi.h. Modules implement the functions that begin with
 * envoy_dynamic_module_on_, Envoy those that begin with envoy_dynamic_module_callback_. */
#ifndef INFERMESH_ENVOY_H
#define INFERMESH_ENVOY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOOK(name) envoy_dynamic_module_on_##name
#define ENVOY(name) envoy_dynamic_module_callback_##name
#define EXPORTED __attribute__((visibility("default")))

#define ENVOY_ABI_VERSION "v0.1.0"

typedef struct {
  const char *at;
  size_t length;
} envoy_bytes;

typedef struct {
  const char *name;
  size_t name_length;
  const char *value;
  size_t value_length;
} envoy_header;

enum { REQUEST_HEADERS = 0 };
enum { RECEIVED_REQUEST_BODY = 0, BUFFERED_REQUEST_BODY = 1 };
enum { HEADERS_STOP = 1 };
enum { BODY_STOP_AND_WATERMARK = 2, BODY_STOP_NO_BUFFER = 3 };
enum { TRAILERS_STOP = 1 };
enum { GO_ON = 0 };
enum { LOCAL_RESET = 0 };
/* The twenty-fifth of the attributes that Envoy numbers from request.path on. */
enum { ATTRIBUTE_SOURCE_ADDRESS = 24 };

size_t ENVOY(http_get_headers_size)(void *filter, int which);
bool ENVOY(http_get_headers)(void *filter, int which, envoy_header *into);
size_t ENVOY(http_get_body_chunks_size)(void *filter, int which);
bool ENVOY(http_get_body_chunks)(void *filter, int which, envoy_bytes *into);
void ENVOY(http_set_buffer_limit)(void *filter, uint64_t limit);
bool ENVOY(http_drain_body)(void *filter, int which, size_t length);
bool ENVOY(http_filter_get_attribute_string)(void *filter, int attribute, envoy_bytes *into);
void ENVOY(http_send_response_headers)(void *filter, envoy_header *headers, size_t count, bool end);
void ENVOY(http_send_response_data)(void *filter, envoy_bytes data, bool end);
void ENVOY(http_send_response_trailers)(void *filter, envoy_header *trailers, size_t count);
void ENVOY(http_filter_reset_stream)(void *filter, int reason, envoy_bytes details);
void *ENVOY(http_filter_scheduler_new)(void *filter);
void ENVOY(http_filter_scheduler_commit)(void *scheduler, uint64_t event);
void ENVOY(http_filter_scheduler_delete)(void *scheduler);

#endif
