/* A libnvidia-ml.so.1 that follows a script, for tests without a GPU.
 *
 * FAKE_NVML_SCRIPT names the script, read by nvmlInit and fake_nvml_reload. A line each:
 *
 *   driver 570.86.15                    version of the driver
 *   cuda 12080                          CUDA version it supports
 *   clock manual                        time is set by fake_nvml_set_time; else CLOCK_MONOTONIC
 *   epoch 123                           time 0 of the script in ns of that clock (default: first init)
 *   device 0 uuid=GPU-0 name=NVIDIA_H100 bus=00000000:1B:00.0 memory=85520809984 gpm=1 mig=0
 *            energy=1 resolution_ms=0     (one line; _ in a name is a space)
 *            live=0 idle_power=0          live: with the virtual GPU in the process, values hold
 *                                         while it is busy, and its memory is what is used
 *   mig 0 0 uuid=MIG-0 gi=1 ci=0 sms=16 memory_mb=9856 name=MIG_1g.10gb
 *   process 0 pid=4711 used=1000000 gi=1
 *   at 1.5 0 power=500 clock=1755 temperature=60 reasons=4 sm=0.5 occupancy=0.2 tensor=0.4
 *            dram=0.3 utilization=80 used=1000 energy=7 ecc=1
 *                                       (one line) values of device 0 from second 1.5 on; `energy`
 *                                       sets the counter to so many J
 *   error nvmlDeviceGetPowerUsage 15 device=0 from=1 to=2      code that a function answers; `*`
 *                                       is every function
 *   latency nvmlGpmSampleGet 2 from=1 to=3                     seconds that it takes
 *
 * Shares of GPM are integrated over time, so that what it answers for two samples is their mean.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SIZE = 7 };
enum { POWER, CLOCK, TEMPERATURE, REASONS, SM, OCCUPANCY, TENSOR, DRAM, UTILIZATION, USED, ECC, VALUES };
static const char *NAMES[VALUES] = {"power", "clock", "temperature", "reasons", "sm", "occupancy",
                                    "tensor", "dram", "utilization", "used", "ecc"};
enum { DEVICES = 16, MIGS = 8, POINTS = 256, RULES = 64, PROCESSES = 16, TEXT = 96 };

typedef struct { double at, value[VALUES], energy; } Point;
typedef struct Device {
  int index, parent, gi, ci, sms, mig_mode, gpm, has_energy, migs, points, processes;
  int live;
  double resolution_s, idle_power, seen_at, seen_busy_s, busy_share;
  unsigned long long memory;
  char uuid[TEXT], name[TEXT], bus[32];
  Point point[POINTS];
  struct { unsigned pid, gi; unsigned long long used; } process[PROCESSES];
} Device;
typedef struct { char function[TEXT]; double value, from, to; int device; } Rule;
typedef struct { double at, sum[VALUES]; int used; } Sample;

static Device devices[DEVICES], instances[DEVICES][MIGS];
static Rule errors[RULES], latencies[RULES];
static int device_count, error_count, latency_count, manual, cuda;
static char driver[TEXT];
static int64_t manual_ns, epoch_ns, calls;
static pid_t initialized_in;
static long caller;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Of tests/virtual_gpu, where it is in the process. */
extern int64_t virtual_gpu_busy_ns(int index) __attribute__((weak));
extern int64_t virtual_gpu_used_bytes(int index) __attribute__((weak));
extern int64_t virtual_gpu_total_bytes(void) __attribute__((weak));

void fake_nvml_set_time(int64_t ns) { manual_ns = ns; }
/* How many calls there were, and from which thread the last one came. */
int64_t fake_nvml_calls(void) { return calls; }
long fake_nvml_caller(void) { return caller; }

static double now_s(void) {
  if (manual) return (manual_ns - epoch_ns) / 1e9;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (now.tv_sec * 1000000000LL + now.tv_nsec - epoch_ns) / 1e9;
}

static double number(const char *line, const char *key, double otherwise) {
  char pattern[TEXT];
  snprintf(pattern, sizeof pattern, " %s=", key);
  const char *found = strstr(line, pattern);
  return found ? strtod(found + strlen(pattern), NULL) : otherwise;
}

static void text(const char *line, const char *key, char *target, size_t size) {
  char pattern[TEXT];
  snprintf(pattern, sizeof pattern, " %s=", key);
  const char *found = strstr(line, pattern);
  if (!found) return;
  found += strlen(pattern);
  size_t length = strcspn(found, " \n");
  if (length >= size) length = size - 1;
  memcpy(target, found, length);
  target[length] = 0;
}

static void spaces(char *name) {
  for (; *name; name++) if (*name == '_') *name = ' ';
}

static void read_rule(Rule *rules, int *count, const char *line) {
  Rule *rule = &rules[(*count)++];
  sscanf(line, "%*s %95s %lf", rule->function, &rule->value);
  rule->device = (int)number(line, "device", -1);
  rule->from = number(line, "from", -1e18);
  rule->to = number(line, "to", 1e18);
}

int fake_nvml_reload(void) {
  const char *path = getenv("FAKE_NVML_SCRIPT");
  FILE *file = path ? fopen(path, "r") : NULL;
  char line[1024];
  int64_t chosen_epoch = -1;
  if (!file) return 9; /* NVML_ERROR_DRIVER_NOT_LOADED */
  memset(devices, 0, sizeof devices);
  memset(instances, 0, sizeof instances);
  device_count = error_count = latency_count = manual = cuda = 0;
  strcpy(driver, "570.86.15");
  while (fgets(line, sizeof line, file)) {
    int index = 0, other = 0;
    long long whole;
    double at;
    if (sscanf(line, "driver %95s", driver) == 1) continue;
    if (sscanf(line, "cuda %d", &cuda) == 1) continue;
    if (!strncmp(line, "clock manual", 12)) { manual = 1; continue; }
    if (sscanf(line, "epoch %lld", &whole) == 1) { chosen_epoch = whole; continue; }
    if (sscanf(line, "device %d", &index) == 1) {
      Device *device = &devices[index];
      device->index = index;
      device->parent = -1;
      device->gi = device->ci = -1;
      strcpy(device->name, "NVIDIA H100 80GB HBM3");
      snprintf(device->bus, sizeof device->bus, "00000000:%02X:00.0", index + 1);
      text(line, "uuid", device->uuid, sizeof device->uuid);
      text(line, "name", device->name, sizeof device->name);
      text(line, "bus", device->bus, sizeof device->bus);
      spaces(device->name);
      device->memory = (unsigned long long)number(line, "memory", 85520809984.0);
      device->gpm = (int)number(line, "gpm", 1);
      device->mig_mode = (int)number(line, "mig", 0);
      device->has_energy = (int)number(line, "energy", 1);
      device->resolution_s = number(line, "resolution_ms", 0) / 1e3;
      device->idle_power = number(line, "idle_power", 0);
      device->live = virtual_gpu_busy_ns && number(line, "live", 0);
      if (device->live) device->memory = (unsigned long long)virtual_gpu_total_bytes();
      if (index >= device_count) device_count = index + 1;
    } else if (sscanf(line, "mig %d %d", &index, &other) == 2) {
      Device *instance = &instances[index][other];
      *instance = (Device){.index = other, .parent = index, .gpm = 1};
      instance->gi = (int)number(line, "gi", other + 1);
      instance->ci = (int)number(line, "ci", 0);
      instance->sms = (int)number(line, "sms", 16);
      instance->memory = (unsigned long long)number(line, "memory_mb", 9856) << 20;
      strcpy(instance->name, "NVIDIA H100 80GB HBM3 MIG 1g.10gb");
      text(line, "uuid", instance->uuid, sizeof instance->uuid);
      text(line, "name", instance->name, sizeof instance->name);
      spaces(instance->name);
      if (other >= devices[index].migs) devices[index].migs = other + 1;
    } else if (sscanf(line, "process %d", &index) == 1) {
      Device *device = &devices[index];
      int next = device->processes++;
      device->process[next].pid = (unsigned)number(line, "pid", 1);
      device->process[next].used = (unsigned long long)number(line, "used", 0);
      device->process[next].gi = (unsigned)number(line, "gi", 4294967295.0);
    } else if (sscanf(line, "at %lf %d", &at, &index) == 2) {
      Device *device = &devices[index];
      Point *point = &device->point[device->points];
      if (device->points) *point = device->point[device->points - 1];
      point->at = at;
      for (int value = 0; value < VALUES; value++)
        point->value[value] = number(line, NAMES[value], point->value[value]);
      point->energy = number(line, "energy", -1);
      device->points++;
    } else if (!strncmp(line, "error ", 6)) {
      read_rule(errors, &error_count, line);
    } else if (!strncmp(line, "latency ", 8)) {
      read_rule(latencies, &latency_count, line);
    }
  }
  fclose(file);
  if (chosen_epoch >= 0) epoch_ns = chosen_epoch;
  else if (!epoch_ns && !manual) epoch_ns = (int64_t)(now_s() * 1e9);
  return SUCCESS;
}

static Device *whole(Device *device) { return device->parent < 0 ? device : &devices[device->parent]; }

/* The value at a time, and its integral up to that time. */
static double live_value(Device *device, int value, double at) {
  const double WINDOW_S = 0.05; /* over which a gauge is a mean */
  double found = device->points ? device->point[0].value[value] : 0;
  if (value == USED) return (double)virtual_gpu_used_bytes(device->index);
  if (value != POWER && value != UTILIZATION) return found;
  if (at - device->seen_at >= WINDOW_S) {
    double busy_s = virtual_gpu_busy_ns(device->index) / 1e9;
    device->busy_share = (busy_s - device->seen_busy_s) / (at - device->seen_at);
    device->seen_at = at;
    device->seen_busy_s = busy_s;
  }
  if (value == POWER) return device->idle_power + (found - device->idle_power) * device->busy_share;
  return found * device->busy_share;
}

static double value_at(Device *device, int value, double at) {
  double found = 0;
  device = whole(device);
  if (device->live) return live_value(device, value, at);
  for (int i = 0; i < device->points && device->point[i].at <= at; i++) found = device->point[i].value[value];
  return found;
}

static double integral(Device *device, int value, double until, int is_counter) {
  double sum = 0;
  device = whole(device);
  if (device->live) {
    double busy_s = virtual_gpu_busy_ns(device->index) / 1e9, value_busy = device->point[0].value[value];
    if (value != POWER) return value_busy * busy_s;
    return device->idle_power * until + (value_busy - device->idle_power) * busy_s;
  }
  for (int i = 0; i < device->points && device->point[i].at < until; i++) {
    double end = i + 1 < device->points && device->point[i + 1].at < until ? device->point[i + 1].at : until;
    if (is_counter && device->point[i].energy >= 0) sum = device->point[i].energy;
    sum += device->point[i].value[value] * (end - device->point[i].at);
  }
  return sum;
}

static int applies(const Rule *rule, const char *function, const Device *device, double now) {
  int index = device ? (device->parent < 0 ? device->index : device->parent) : -1;
  return (!strcmp(rule->function, function) || !strcmp(rule->function, "*")) && now >= rule->from &&
         now < rule->to && (rule->device < 0 || rule->device == index);
}

/* What every call goes through: latency, then the scripted error. */
static int enter(const char *function, const Device *device) {
  double wait = 0;
  int code = SUCCESS, is_init = !strcmp(function, "nvmlInitWithFlags");
  pthread_mutex_lock(&lock);
  calls++;
  caller = syscall(SYS_gettid);
  double now = now_s();
  for (int i = 0; i < latency_count; i++) if (applies(&latencies[i], function, device, now)) wait = latencies[i].value;
  for (int i = 0; i < error_count; i++) if (applies(&errors[i], function, device, now)) code = (int)errors[i].value;
  if (!is_init && initialized_in != getpid()) code = UNINITIALIZED;
  pthread_mutex_unlock(&lock);
  if (wait > 0) {
    struct timespec pause = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
    nanosleep(&pause, NULL);
  }
  return code;
}
#define ENTER(device) { int code = enter(__func__, device); if (code) return code; }

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  int code = fake_nvml_reload();
  if (!code) code = enter(__func__, NULL);
  if (!code) initialized_in = getpid();
  return code;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { ENTER(NULL); initialized_in = 0; return SUCCESS; }
const char *nvmlErrorString(int code) {
  static __thread char text[32];
  snprintf(text, sizeof text, "NVML error %d", code);
  return text;
}
int nvmlSystemGetDriverVersion(char *version, unsigned length) { ENTER(NULL); snprintf(version, length, "%s", driver); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion(int *version) { ENTER(NULL); *version = cuda ? cuda : 12080; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { ENTER(NULL); *count = device_count; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
  ENTER(NULL);
  if (index >= (unsigned)device_count) return INVALID;
  *device = &devices[index];
  return enter(__func__, *device);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, Device **found) {
  ENTER(NULL);
  for (int i = 0; i < device_count; i++) {
    if (!strcmp(devices[i].uuid, uuid)) { *found = &devices[i]; return enter(__func__, *found); }
    for (int j = 0; j < devices[i].migs; j++)
      if (!strcmp(instances[i][j].uuid, uuid)) { *found = &instances[i][j]; return enter(__func__, *found); }
  }
  return NOT_FOUND;
}
int nvmlDeviceGetName(Device *device, char *name, unsigned length) { ENTER(device); snprintf(name, length, "%s", device->name); return SUCCESS; }
int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned length) { ENTER(device); snprintf(uuid, length, "%s", device->uuid); return SUCCESS; }
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } PciInfo;
int nvmlDeviceGetPciInfo_v3(Device *device, PciInfo *info) {
  ENTER(device);
  memset(info, 0, sizeof *info);
  snprintf(info->bus_id, sizeof info->bus_id, "%s", device->bus);
  sscanf(device->bus, "%x:%x:%x", &info->domain, &info->bus, &info->device);
  return SUCCESS;
}
int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
  ENTER(device);
  *current = *pending = device->mig_mode;
  return SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) { ENTER(device); *count = device->mig_mode ? MIGS - 1 : 0; return SUCCESS; }
int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **instance) {
  ENTER(device);
  if (index >= MIGS || !instances[device->index][index].sms) return NOT_FOUND;
  *instance = &instances[device->index][index];
  return SUCCESS;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *instance, Device **device) {
  ENTER(instance);
  if (instance->parent < 0) return INVALID;
  *device = &devices[instance->parent];
  return SUCCESS;
}
int nvmlDeviceIsMigDeviceHandle(Device *device, unsigned *is) { ENTER(device); *is = device->parent >= 0; return SUCCESS; }
int nvmlDeviceGetGpuInstanceId(Device *device, unsigned *id) {
  ENTER(device);
  if (device->parent < 0) return NOT_SUPPORTED;
  *id = device->gi;
  return SUCCESS;
}
int nvmlDeviceGetComputeInstanceId(Device *device, unsigned *id) {
  ENTER(device);
  if (device->parent < 0) return NOT_SUPPORTED;
  *id = device->ci;
  return SUCCESS;
}
typedef struct { unsigned sms, other[7]; unsigned long long memory_mb; } Attributes;
int nvmlDeviceGetAttributes_v2(Device *device, Attributes *attributes) {
  ENTER(device);
  if (device->parent < 0) return NOT_SUPPORTED;
  memset(attributes, 0, sizeof *attributes);
  attributes->sms = device->sms;
  attributes->memory_mb = device->memory >> 20;
  return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(Device *device, unsigned long long *info) {
  ENTER(device);
  info[0] = device->memory;
  info[2] = (unsigned long long)value_at(device, USED, now_s());
  info[1] = info[0] - info[2];
  return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(Device *device, unsigned *rates) {
  ENTER(device);
  if (device->parent >= 0 || device->mig_mode) return NOT_SUPPORTED;
  rates[0] = (unsigned)value_at(device, UTILIZATION, now_s());
  rates[1] = 0;
  return SUCCESS;
}
static int gauge(const char *function, Device *device, int value, double scale, unsigned *result) {
  int code = enter(function, device);
  if (code) return code;
  if (device->parent >= 0) return NOT_SUPPORTED;
  *result = (unsigned)(value_at(device, value, now_s()) * scale);
  return SUCCESS;
}
int nvmlDeviceGetPowerUsage(Device *device, unsigned *mw) { return gauge(__func__, device, POWER, 1e3, mw); }
int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *celsius) { (void)sensor; return gauge(__func__, device, TEMPERATURE, 1, celsius); }
int nvmlDeviceGetClockInfo(Device *device, int type, unsigned *mhz) { (void)type; return gauge(__func__, device, CLOCK, 1, mhz); }
int nvmlDeviceGetCurrentClocksEventReasons(Device *device, unsigned long long *reasons) {
  unsigned low = 0;
  int code = gauge(__func__, device, REASONS, 1, &low);
  *reasons = low;
  return code;
}
int nvmlDeviceGetTotalEccErrors(Device *device, int type, int counter, unsigned long long *count) {
  (void)counter;
  unsigned low = 0;
  int code = gauge(__func__, device, ECC, 1, &low);
  *count = type ? low : 0;
  return code;
}
int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *mj) {
  ENTER(device);
  if (device->parent >= 0 || !device->has_energy) return NOT_SUPPORTED;
  double now = now_s();
  if (device->resolution_s > 0) now = (long long)(now / device->resolution_s + 1e-9) * device->resolution_s;
  *mj = (unsigned long long)(integral(device, POWER, now, 1) * 1e3 + 0.5);
  return SUCCESS;
}
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } ProcessInfo;
int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, ProcessInfo *infos) {
  ENTER(device);
  Device *parent = whole(device);
  unsigned room = infos ? *count : 0, found = 0;
  for (int i = 0; i < parent->processes; i++) {
    if (device->parent >= 0 && parent->process[i].gi != (unsigned)device->gi) continue;
    if (found < room) infos[found] = (ProcessInfo){parent->process[i].pid, parent->process[i].used, parent->process[i].gi, 0};
    found++;
  }
  *count = found;
  return found > room ? SIZE : SUCCESS;
}
int nvmlGpmQueryDeviceSupport(Device *device, unsigned *support) { ENTER(device); support[1] = whole(device)->gpm; return SUCCESS; }
int nvmlGpmSampleAlloc(Sample **sample) { ENTER(NULL); *sample = calloc(1, sizeof(Sample)); return SUCCESS; }
int nvmlGpmSampleFree(Sample *sample) { ENTER(NULL); free(sample); return SUCCESS; }
static int take(Device *device, Sample *sample) {
  sample->at = now_s();
  sample->used = 1;
  for (int value = SM; value <= DRAM; value++) sample->sum[value] = integral(device, value, sample->at, 0);
  return SUCCESS;
}
int nvmlGpmSampleGet(Device *device, Sample *sample) {
  ENTER(device);
  if (!device->gpm || device->mig_mode) return NOT_SUPPORTED;
  return take(device, sample);
}
int nvmlGpmMigSampleGet(Device *device, unsigned instance, Sample *sample) {
  (void)instance;
  ENTER(device);
  if (!device->gpm || !device->mig_mode) return NOT_SUPPORTED;
  return take(device, sample);
}
typedef struct { unsigned id; int code; double value; const char *info[3]; } Metric;
typedef struct { unsigned version, count; Sample *first, *second; Metric metric[]; } MetricsGet;
int nvmlGpmMetricsGet(MetricsGet *get) {
  ENTER(NULL);
  if (get->version != 1) return 25; /* NVML_ERROR_ARGUMENT_VERSION_MISMATCH */
  double between = get->second->at - get->first->at;
  if (!get->first->used || !get->second->used || between <= 0) return INVALID;
  for (unsigned i = 0; i < get->count; i++) {
    Metric *metric = &get->metric[i];
    int value = metric->id == 2 ? SM : metric->id == 3 ? OCCUPANCY : metric->id == 5 ? TENSOR : metric->id == 10 ? DRAM : -1;
    metric->code = value < 0 ? NOT_SUPPORTED : SUCCESS;
    if (value >= 0) metric->value = 100 * (get->second->sum[value] - get->first->sum[value]) / between;
  }
  return SUCCESS;
}
