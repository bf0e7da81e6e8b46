/* What Envoy asks of every module, and the parts of the interface that the bridge has no use for. */
#include <stdlib.h>

#include "bridge.h"

EXPORTED const char *HOOK(program_init)(void) { return ENVOY_ABI_VERSION; }

EXPORTED const void *HOOK(http_filter_config_new)(void *config, envoy_bytes name, envoy_bytes value) {
  (void)config, (void)name;
  return app_start(value);
}

EXPORTED void HOOK(http_filter_config_destroy)(const void *app) { app_stop((struct app *)app); }

EXPORTED const void *HOOK(http_filter_per_route_config_new)(envoy_bytes name, envoy_bytes value) {
  (void)name, (void)value;
  return NULL; /* refused: routes have nothing to say */
}

EXPORTED void HOOK(http_filter_per_route_config_destroy)(const void *config) { (void)config; }

/* A terminal filter sees no answer but its own. */
EXPORTED int HOOK(http_filter_response_headers)(void *filter, const void *stream, bool end) {
  (void)filter, (void)stream, (void)end;
  return GO_ON;
}

EXPORTED int HOOK(http_filter_response_body)(void *filter, const void *stream, bool end) {
  (void)filter, (void)stream, (void)end;
  return GO_ON;
}

EXPORTED int HOOK(http_filter_response_trailers)(void *filter, const void *stream) {
  (void)filter, (void)stream;
  return GO_ON;
}

EXPORTED int HOOK(http_filter_local_reply)(void *filter, const void *stream, uint32_t code, envoy_bytes details,
                                           bool reset) {
  (void)filter, (void)stream, (void)code, (void)details, (void)reset;
  return GO_ON;
}

EXPORTED void HOOK(http_filter_stream_complete)(void *filter, const void *stream) { (void)filter, (void)stream; }

EXPORTED void HOOK(http_filter_config_scheduled)(void *config, const void *app, uint64_t event) {
  (void)config, (void)app, (void)event;
}

/* The bridge makes no calls through Envoy, so none of these is ever called; Envoy looks for them all the same. */
#define NEVER(name) \
  EXPORTED void HOOK(name)(void) { abort(); }
NEVER(http_filter_http_callout_done)
NEVER(http_filter_http_stream_headers)
NEVER(http_filter_http_stream_data)
NEVER(http_filter_http_stream_trailers)
NEVER(http_filter_http_stream_complete)
NEVER(http_filter_http_stream_reset)
NEVER(http_filter_config_http_callout_done)
NEVER(http_filter_config_http_stream_headers)
NEVER(http_filter_config_http_stream_data)
NEVER(http_filter_config_http_stream_trailers)
NEVER(http_filter_config_http_stream_complete)
NEVER(http_filter_config_http_stream_reset)
