/* A double of NVIDIA's management library at its C interface: one GPU that says everything, one that is divided and says
 * little. `played_calls_until_lost` calls from now on the driver is gone; negative: it stays. Who computes there is in
 * the file PLAYED_PIDS, a number a line; without it, two whom there is not. */
#include <stdio.h>
#include <string.h>

#ifndef PLAYED_PIDS
#define PLAYED_PIDS ""
#endif

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };

typedef struct { unsigned int gpu, memory; } rates_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int pid; unsigned long long memory; unsigned int gpu_instance, compute_instance; } process_t;

int played_calls_until_lost = -1;
int played_sessions = 0;
static char gpus[2];

static int answered(void) {
    if (played_sessions == 0) return UNINITIALIZED;
    if (played_calls_until_lost == 0) return GPU_IS_LOST;
    if (played_calls_until_lost > 0) played_calls_until_lost--;
    return OK;
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; played_sessions++; return OK; }
int nvmlShutdown(void) { if (played_sessions == 0) return UNINITIALIZED; played_sessions--; return OK; }
const char *nvmlErrorString(int result) { return result == GPU_IS_LOST ? "GPU is lost" : "an error"; }

int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return answered(); }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **gpu) {
    if (index > 1) return INVALID;
    *gpu = &gpus[index];
    return answered();
}
int nvmlDeviceGetUUID(void *gpu, char *uuid, unsigned int length) {
    strncpy(uuid, gpu == &gpus[0] ? "GPU-a" : "GPU-b", length);
    return answered();
}
int nvmlDeviceGetName(void *gpu, char *name, unsigned int length) { (void)gpu; strncpy(name, "NVIDIA H100", length); return answered(); }
int nvmlDeviceGetUtilizationRates(void *gpu, rates_t *rates) {
    if (gpu != &gpus[0]) return UNSUPPORTED;
    rates->gpu = 87; rates->memory = 12;
    return answered();
}
int nvmlDeviceGetMemoryInfo(void *gpu, memory_t *memory) {
    memory->total = 80ULL << 30; memory->used = gpu == &gpus[0] ? 60ULL << 30 : 20ULL << 30;
    memory->free = memory->total - memory->used;
    return answered();
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned int *count, process_t *processes) {
    unsigned int pids[64] = {4001, 4002}, known = 2;
    FILE *file = fopen(PLAYED_PIDS, "r");
    if (file != 0) {
        for (known = 0; known < 64 && fscanf(file, "%u", &pids[known]) == 1;) known++;
        fclose(file);
    }
    if (gpu != &gpus[0]) known = 0;
    if (known > 0 && (processes == 0 || *count < known)) { *count = known; return INSUFFICIENT_SIZE; }
    if (known > 0) memset(processes, 0, known * sizeof(process_t));
    for (unsigned int at = 0; at < known; at++) processes[at].pid = pids[at];
    *count = known;
    return answered();
}
