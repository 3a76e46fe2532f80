// cuFFT and cuSOLVER, as far as torch's common operators need them.
#include "device.h"

#include <cstring>

using vgpu::launch;

namespace {
struct Handle {
  void *stream = nullptr;
};
}  // namespace

// --- cuFFT: a plan is a small number --------------------------------------------------------------

constexpr int PLANS = 4096;
static void *plan_streams[PLANS];
static int next_plan = 0;

API int cufftCreate(int *plan) {
  vgpu::State &s = vgpu::state();
  vgpu::Lock held(s.lock);
  *plan = next_plan++ % PLANS;
  return 0;
}
API int cufftDestroy(int) { return 0; }
API int cufftSetAutoAllocation(int, int) { return 0; }
API int cufftSetWorkArea(int, void *) { return 0; }
API int cufftSetStream(int plan, void *stream) {
  plan_streams[plan] = stream;
  return 0;
}
API int cufftXtMakePlanMany(int, int, long long *, long long *, long long, long long, int,
                            long long *, long long, long long, int, long long, size_t *workspace,
                            int) {
  *workspace = 0;
  return 0;
}
API int cufftXtExec(int plan, void *, void *, int) {
  constexpr int EXECUTION_FAILED = 6;
  return launch("cufftXtExec", plan_streams[plan]) ? EXECUTION_FAILED : 0;
}

// --- cuSOLVER: LU and Cholesky; every other function is a stub that takes its handle first -------

API int cusolverDnCreate(Handle **out) {
  *out = new Handle;
  return 0;
}
API int cusolverDnDestroy(Handle *handle) {
  delete handle;
  return 0;
}
API int cusolverDnSetStream(Handle *handle, void *stream) {
  handle->stream = stream;
  return 0;
}
API int virtual_gpu_solver(Handle *handle, const char *name) {
  constexpr int EXECUTION_FAILED = 6;
  return launch(name, handle->stream) ? EXECUTION_FAILED : 0;
}
#define NO_WORKSPACE(name)                                                    \
  API int name(Handle *, int, int, const void *, int, int *workspace) { \
    *workspace = 0;                                                           \
    return 0;                                                                 \
  }
NO_WORKSPACE(cusolverDnSgetrf_bufferSize)
NO_WORKSPACE(cusolverDnDgetrf_bufferSize)
NO_WORKSPACE(cusolverDnSpotrf_bufferSize)
NO_WORKSPACE(cusolverDnDpotrf_bufferSize)
API int cusolverDnCreateParams(void **out) {
  *out = new char;
  return 0;
}
API int cusolverDnDestroyParams(void *params) {
  delete static_cast<char *>(params);
  return 0;
}
API int cusolverDnXpotrf_bufferSize(Handle *, void *, int, int64_t, int, const void *, int64_t,
                                    int, size_t *device_bytes, size_t *host_bytes) {
  *device_bytes = *host_bytes = 0;
  return 0;
}
