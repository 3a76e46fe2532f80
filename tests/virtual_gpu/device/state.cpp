// What every call goes through: the state, errors, and which calls a capture forbids.
#include "device.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace vgpu {

thread_local int current_device = 0;
thread_local Mode thread_mode = Global;
static thread_local int last_error = 0;

static double setting(const char *name, double otherwise) {
  const char *text = getenv(name);
  return text && *text ? atof(text) : otherwise;
}

// CUDA_VISIBLE_DEVICES by index or UUID; from the first that is unknown on, nothing is seen.
static void choose_visible(State &s) {
  for (int i = 0; i < MAX_CARDS; ++i) s.visible[i] = i;
  const char *text = getenv("CUDA_VISIBLE_DEVICES");
  if (!text) return;
  int seen = 0;
  for (std::string rest = text; !rest.empty() && seen < MAX_CARDS;) {
    size_t comma = rest.find(',');
    std::string item = rest.substr(0, comma);
    long index = -1;
    if (item.rfind("GPU-", 0) == 0)
      index = strtol(item.c_str() + std::max<size_t>(item.size(), 2) - 2, nullptr, 16);
    else if (!item.empty() && item.find_first_not_of("0123456789") == std::string::npos)
      index = atol(item.c_str());
    if (index < 0 || index >= s.count) break;
    s.visible[seen++] = int(index);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
  }
  s.count = seen;
}

State &state() {
  static State *made = [] {
    auto *s = new State;
    s->count = std::min(int(setting("VIRTUAL_GPU_DEVICES", s->count)), MAX_CARDS);
    s->memory = size_t(setting("VIRTUAL_GPU_MEMORY_BYTES", double(s->memory)));
    s->kernel_s = setting("VIRTUAL_GPU_KERNEL_S", s->kernel_s);
    s->initial = *s;
    s->log = setting("VIRTUAL_GPU_LOG", 0) != 0;
    for (int i = 0; i < MAX_CARDS; ++i) {
      s->cards[i].legacy.device = i;
      s->cards[i].legacy.legacy = true;
    }
    choose_visible(*s);
    return s;
  }();
  return *made;
}

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

uint64_t thread_id() {
  static thread_local uint64_t id = uint64_t(syscall(SYS_gettid));
  return id;
}

int fail(int error) {
  if (error) last_error = error;
  return error;
}

// After a sticky error a program may still ask which device it uses, and tidy up.
static bool works_on_a_lost_device(const char *api) {
  for (const char *part :
       {"GetDevice", "SetDevice", "Capturing", "Destroy", "EventCreate", "Attribute"})
    if (strstr(api, part)) return true;
  return false;
}

int called(const char *api) {
  State &s = state();
  Lock held(s.lock);
  ++s.calls[api];
  if (s.log) fprintf(stderr, "virtual GPU: %s\n", api);
  if (!s.owner) s.owner = getpid();
  if (s.owner != getpid()) return InitializationError;
  if (s.sticky && !works_on_a_lost_device(api)) return s.sticky;
  auto fault = s.faults.find(api);
  if (fault == s.faults.end() || fault->second.times == 0) return Success;
  if (fault->second.times > 0) --fault->second.times;
  return fault->second.error;
}

Card &card() {
  Card &c = state().cards[current_device];
  c.context = true;
  return c;
}

Stream *stream_of(void *handle) {
  // 0 and 1 are the legacy default stream. 2, the thread's own default, is not used by torch.
  return uintptr_t(handle) <= 2 ? &card().legacy : static_cast<Stream *>(handle);
}

std::shared_ptr<Event> event_of(void *handle) {
  auto found = state().events.find(handle);
  return found == state().events.end() ? nullptr : found->second;
}

void invalidate(Capture *capture) { capture->valid = false; }

int unsafe_call() {
  State &s = state();
  if (thread_mode == Relaxed || s.captures.empty()) return Success;
  bool forbidden = false;
  for (auto &[id, capture] : s.captures) {
    bool own = pthread_equal(capture->thread, pthread_self());
    if ((own && capture->mode != Relaxed) ||
        (!own && thread_mode == Global && capture->mode == Global)) {
      forbidden = true;
      invalidate(capture);
    }
  }
  return forbidden ? CaptureUnsupported : Success;
}

}  // namespace vgpu

using namespace vgpu;

API int cudaGetLastError() {
  int error = last_error;
  last_error = state().sticky;
  return error;
}
API int cudaPeekAtLastError() { return last_error; }

static const struct {
  int code;
  const char *name, *text;
} ERRORS[] = {
    {0, "cudaSuccess", "no error"},
    {1, "cudaErrorInvalidValue", "invalid argument"},
    {2, "cudaErrorMemoryAllocation", "out of memory"},
    {3, "cudaErrorInitializationError", "initialization error"},
    {35, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {100, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {101, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {400, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {401, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {500, "cudaErrorSymbolNotFound", "named symbol not found"},
    {600, "cudaErrorNotReady", "device not ready"},
    {700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {710, "cudaErrorAssert", "device-side assert triggered"},
    {712, "cudaErrorHostMemoryAlreadyRegistered",
     "part or all of the requested memory range is already mapped"},
    {713, "cudaErrorHostMemoryNotRegistered",
     "pointer does not correspond to a registered memory region"},
    {719, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {801, "cudaErrorNotSupported", "operation not supported"},
    {900, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {901, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {902, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {903, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {904, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {905, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {906, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {907, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {908, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

API const char *cudaGetErrorString(int error) {
  for (auto &e : ERRORS)
    if (e.code == error) return e.text;
  return "unrecognized error code";
}
API const char *cudaGetErrorName(int error) {
  for (auto &e : ERRORS)
    if (e.code == error) return e.name;
  return "cudaErrorUnknown";
}
