// The driver, as far as torch and Triton ask for it; most of it is the runtime's by another name.
#include "device.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <string>

using namespace vgpu;

API int cudaDriverGetVersion(int *version);
API int cudaGetDeviceCount(int *count);
API int cudaDeviceGetAttribute(int *value, int which, int device);
API const char *cudaGetErrorString(int error);
API const char *cudaGetErrorName(int error);
API int cudaStreamBeginCapture(void *stream, int mode);
API int cudaStreamEndCapture(void *stream, void **graph);
API int cudaStreamIsCapturing(void *stream, int *status);
API int cudaThreadExchangeStreamCaptureMode(int *mode);
API int cudaGraphDestroy(void *graph);
API int cudaGraphLaunch(void *exec, void *stream);
API int cudaGraphInstantiate(void **out, void *graph, unsigned long long flags);
API int cudaGraphExecDestroy(void *exec);
API int cudaStreamSynchronize(void *stream);
API int cudaStreamQuery(void *stream);
API int cudaEventQuery(void *event);
API int cudaEventRecord(void *event, void *stream);
API int cudaEventSynchronize(void *event);
API int cudaDeviceSynchronize();
API int cudaMemGetInfo(size_t *free_bytes, size_t *total);

API int cuInit(unsigned) { return Success; }
API int cuDriverGetVersion(int *version) { return cudaDriverGetVersion(version); }
API int cuDeviceGetCount(int *count) { return cudaGetDeviceCount(count); }
API int cuDeviceGet(int *device, int ordinal) {
  if (ordinal < 0 || ordinal >= state().count) return InvalidDevice;
  *device = ordinal;
  return Success;
}
API int cuDeviceGetAttribute(int *value, int which, int device) {
  return cudaDeviceGetAttribute(value, which, device);
}
API int cuDeviceGetName(char *name, int size, int) {
  snprintf(name, size_t(size), "%s", CARD_NAME);
  return Success;
}
API int cuDeviceTotalMem_v2(size_t *bytes, int) {
  *bytes = state().memory;
  return Success;
}
API int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
  uuid_of(device, uuid);
  return Success;
}
API int cuDeviceGetUuid(unsigned char *uuid, int device) {
  return cuDeviceGetUuid_v2(uuid, device);
}
API int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  State &s = state();
  Lock held(s.lock);
  if (flags) *flags = 0;
  *active = s.cards[device].context;
  return Success;
}
static void *context_of(int device) { return &state().cards[device]; }
API int cuDevicePrimaryCtxRetain(void **context, int device) {
  State &s = state();
  Lock held(s.lock);
  s.cards[device].context = true;
  *context = context_of(device);
  return Success;
}
API int cuDevicePrimaryCtxRelease_v2(int) { return Success; }
static thread_local void *set_context = nullptr;
API int cuCtxGetCurrent(void **context) {
  State &s = state();
  Lock held(s.lock);
  *context = set_context ? set_context
                         : s.cards[current_device].context ? context_of(current_device) : nullptr;
  return Success;
}
API int cuCtxSetCurrent(void *context) {
  set_context = context;
  if (context) current_device = int(static_cast<Card *>(context) - state().cards);
  return Success;
}
API int cuCtxGetDevice(int *device) {
  *device = current_device;
  return Success;
}
API int cuGetErrorString(int error, const char **text) {
  *text = cudaGetErrorString(error);
  return Success;
}
API int cuGetErrorName(int error, const char **text) {
  *text = cudaGetErrorName(error);
  return Success;
}
API int cuPointerGetAttribute(void *data, int which, uintptr_t pointer) {
  State &s = state();
  Lock held(s.lock);
  const Allocation *found = find(reinterpret_cast<void *>(pointer));
  if (!found) return InvalidValue;
  if (which == 2) *static_cast<unsigned *>(data) = found->kind == Host ? 1 : 2;
  else if (which == 3 || which == 4) *static_cast<uintptr_t *>(data) = pointer;
  else if (which == 9) *static_cast<int *>(data) = found->device;
  else if (which == 1) *static_cast<void **>(data) = context_of(found->device);
  else return NotSupported;
  return Success;
}
API int cuMemGetAddressRange_v2(uintptr_t *base, size_t *size, uintptr_t pointer) {
  State &s = state();
  Lock held(s.lock);
  uintptr_t start = 0;
  const Allocation *found = find(reinterpret_cast<void *>(pointer), &start);
  if (!found) return InvalidValue;
  if (base) *base = start;
  if (size) *size = found->size;
  return Success;
}
API int cuStreamGetCtx(void *, void **context) {
  *context = context_of(current_device);
  return Success;
}
API int cuStreamBeginCapture_v2(void *stream, int mode) { return cudaStreamBeginCapture(stream, mode); }
API int cuStreamEndCapture(void *stream, void **graph) { return cudaStreamEndCapture(stream, graph); }
API int cuStreamIsCapturing(void *stream, int *status) { return cudaStreamIsCapturing(stream, status); }
API int cuThreadExchangeStreamCaptureMode(int *mode) { return cudaThreadExchangeStreamCaptureMode(mode); }
API int cuGraphDestroy(void *graph) { return cudaGraphDestroy(graph); }
API int cuGraphLaunch(void *exec, void *stream) { return cudaGraphLaunch(exec, stream); }
API int cuGraphInstantiateWithFlags(void **out, void *graph, unsigned long long flags) {
  return cudaGraphInstantiate(out, graph, flags);
}
API int cuGraphExecDestroy(void *exec) { return cudaGraphExecDestroy(exec); }
API int cuStreamSynchronize(void *stream) { return cudaStreamSynchronize(stream); }
API int cuStreamQuery(void *stream) { return cudaStreamQuery(stream); }
API int cuEventQuery(void *event) { return cudaEventQuery(event); }
API int cuEventRecord(void *event, void *stream) { return cudaEventRecord(event, stream); }
API int cuEventSynchronize(void *event) { return cudaEventSynchronize(event); }
API int cuCtxSynchronize() { return cudaDeviceSynchronize(); }
API int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { return cudaMemGetInfo(free_bytes, total); }
API int cuCtxGetLimit(size_t *value, int) {
  *value = 1 << 20;
  return Success;
}
API int cuCtxSetLimit(int, size_t) { return Success; }
API int cuTensorMapEncodeTiled() { return Success; }

// The name under which this library is loaded, by which its own functions are known.
static constexpr const char *LIBRARY = "libvirtual_gpu.so";

static void *entry_point(const char *name) {
  for (const char *suffix : {"_v2", ""}) {
    std::string full = std::string(name) + suffix;
    if (void *found = dlsym(RTLD_DEFAULT, full.c_str())) {
      Dl_info info;
      if (dladdr(found, &info) && info.dli_fname && strstr(info.dli_fname, LIBRARY)) return found;
    }
  }
  return nullptr;
}
static int unsupported_driver_call() {
  called("unsupported_driver_call");
  return NotSupported;
}
API int cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned,
                                         unsigned long long, int *status) {
  called("cudaGetDriverEntryPoint");
  *out = entry_point(name);
  if (!*out) *out = reinterpret_cast<void *>(&unsupported_driver_call);
  if (status) *status = *out ? 0 : 1;
  if (state().log) fprintf(stderr, "virtual GPU: driver entry point %s: %p\n", name, *out);
  return *out ? Success : fail(500);
}
API int cudaGetDriverEntryPoint(const char *name, void **out, unsigned long long flags,
                                int *status) {
  return cudaGetDriverEntryPointByVersion(name, out, CUDART, flags, status);
}
API int cuGetProcAddress_v2(const char *name, void **out, int, uint64_t, int *status) {
  *out = entry_point(name);
  if (status) *status = *out ? 0 : 1;
  return *out ? Success : 500;
}

