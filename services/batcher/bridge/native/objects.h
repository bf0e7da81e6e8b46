/* Python's side: what is called from there, and how requests look to it. */
#ifndef INFERMESH_OBJECTS_H
#define INFERMESH_OBJECTS_H

#include "bridge.h"

/* Runs `services.batcher.bridge.host.run` to its end. False, with Python's error set, where it failed. */
bool objects_run(struct app *app, const char *application);
/* The application takes requests from now on. */
void app_started(struct app *app);

#endif
