// What Python says to the virtual GPU, and what it asks of it.
#include "device.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

using namespace vgpu;

// `part` of a kernel's name, or an empty one for the shortest that a kernel takes.
API void virtual_gpu_kernel_time(const char *part, double seconds) {
  State &s = state();
  Lock held(s.lock);
  if (*part)
    s.kernel_times_s.emplace_back(part, seconds);
  else
    s.kernel_s = seconds;
}
API void virtual_gpu_copy_speed(double host_bytes_s, double device_bytes_s, double latency_s) {
  State &s = state();
  Lock held(s.lock);
  s.host_bytes_s = host_bytes_s;
  s.device_bytes_s = device_bytes_s;
  s.copy_latency_s = latency_s;
}
API void virtual_gpu_memory(size_t bytes) {
  State &s = state();
  Lock held(s.lock);
  s.memory = bytes;
}
API void virtual_gpu_queue_depth(size_t launches) {
  State &s = state();
  Lock held(s.lock);
  s.queue_depth = launches;
}
API void virtual_gpu_exclusive(int exclusive) {
  State &s = state();
  Lock held(s.lock);
  s.exclusive = exclusive;
}
// Let a call fail so often (-1: always).
API void virtual_gpu_fail(const char *api, int error, int64_t times) {
  State &s = state();
  Lock held(s.lock);
  s.faults[api] = {error, times};
}
// From now on every call gives this error of the device, as after an illegal access; 0 ends it.
API void virtual_gpu_sticky(int error) {
  State &s = state();
  Lock held(s.lock);
  s.sticky = error;
}
// The script as it was at first. Memory, streams, events and graphs stay.
API void virtual_gpu_reset() {
  State &s = state();
  Lock held(s.lock);
  static_cast<Script &>(s) = s.initial;
}
API void virtual_gpu_forget() {
  State &s = state();
  Lock held(s.lock);
  s.calls.clear();
  s.timeline.clear();
}

API int virtual_gpu_launch(const char *name, void *stream, double work_s) {
  return launch(name, stream, work_s);
}
API int64_t virtual_gpu_calls(const char *api) {
  State &s = state();
  Lock held(s.lock);
  auto it = s.calls.find(api);
  return it == s.calls.end() ? 0 : it->second;
}
API int64_t virtual_gpu_live_events() {
  State &s = state();
  Lock held(s.lock);
  return int64_t(s.events.size());
}
API int virtual_gpu_has_context(int device) {
  State &s = state();
  Lock held(s.lock);
  return s.cards[device].context;
}
// Lines of the timeline from one on; how many there are in all.
API size_t virtual_gpu_timeline(Record *out, size_t from, size_t size) {
  State &s = state();
  Lock held(s.lock);
  for (size_t i = from; i < s.timeline.size() && i - from < size; ++i) out[i - from] = s.timeline[i];
  return s.timeline.size();
}

// --- for the fake NVML: by physical index, of this process alone --------------------------------

static Card *physical(int index) {
  State &s = state();
  for (int i = 0; i < s.count; ++i)
    if (s.visible[i] == index) return &s.cards[i];
  return nullptr;
}
// Nanoseconds until now in which something was on the device.
API int64_t virtual_gpu_busy_ns(int index) {
  State &s = state();
  Lock held(s.lock);
  Card *c = physical(index);
  if (!c) return 0;
  int64_t now = now_ns(), running_ns = 0;
  auto ended = c->busy.begin();
  for (auto &[begin_ns, end_ns] : c->busy) {
    if (end_ns <= now) {
      c->settled_busy_ns += end_ns - begin_ns;
      ++ended;
    } else {
      running_ns += std::max<int64_t>(0, now - begin_ns);
    }
  }
  c->busy.erase(c->busy.begin(), ended);
  return c->settled_busy_ns + running_ns;
}
API int64_t virtual_gpu_used_bytes(int index) {
  State &s = state();
  Lock held(s.lock);
  Card *c = physical(index);
  return c && c->context ? int64_t(c->used + s.context_memory) : 0;
}
API int64_t virtual_gpu_total_bytes() { return int64_t(state().memory); }
