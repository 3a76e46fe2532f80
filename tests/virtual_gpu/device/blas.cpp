// cuBLAS and cuBLASLt: handles, and matrix products that take as long as their operations need.
#include "device.h"

#include <cstdlib>

using vgpu::launch;

namespace {
struct Handle {
  void *stream = nullptr;
  int math_mode = 0, pointer_mode = 0;
};

constexpr int EXECUTION_FAILED = 13;

int product(const char *name, void *stream, double m, double n, double k, double batch) {
  double work_s = 2 * m * n * k * batch / vgpu::state().flops_s;
  return launch(name, stream, work_s) ? EXECUTION_FAILED : 0;
}
}  // namespace

API int cublasCreate_v2(Handle **out) {
  vgpu::called("cublasCreate");
  *out = new Handle;
  return 0;
}
API int cublasDestroy_v2(Handle *handle) {
  delete handle;
  return 0;
}
API int cublasSetStream_v2(Handle *handle, void *stream) {
  handle->stream = stream;
  return 0;
}
API int cublasGetStream_v2(Handle *handle, void **stream) {
  *stream = handle->stream;
  return 0;
}
API int cublasSetWorkspace_v2(Handle *, void *, size_t) { return 0; }
API int cublasGetMathMode(Handle *handle, int *mode) {
  *mode = handle->math_mode;
  return 0;
}
API int cublasSetMathMode(Handle *handle, int mode) {
  handle->math_mode = mode;
  return 0;
}
API int cublasGetPointerMode_v2(Handle *handle, int *mode) {
  *mode = handle->pointer_mode;
  return 0;
}
API int cublasSetPointerMode_v2(Handle *handle, int mode) {
  handle->pointer_mode = mode;
  return 0;
}
API int cublasSetSmCountTarget(Handle *, int) { return 0; }
API int cublasGetVersion_v2(Handle *, int *version) {
  *version = CUDART * 10;
  return 0;
}
API const char *cublasGetStatusString(int) { return "cuBLAS status of the virtual GPU"; }

// Every other computation of cuBLAS takes its handle first, a product its sizes as 4th to 6th.
API int virtual_gpu_blas(Handle *handle, const char *name) {
  return launch(name, handle->stream) ? EXECUTION_FAILED : 0;
}
API int virtual_gpu_gemm(Handle *handle, const char *name, int m, int n, int k) {
  return product(name, handle->stream, m, n, k, 1);
}
#define STRIDED_BATCHED(name)                                                                    \
  API int name(Handle *handle, int, int, int m, int n, int k, const void *, const void *, int,   \
               long long, const void *, int, long long, const void *, void *, int, long long,    \
               int batch) {                                                                      \
    return product(#name, handle->stream, m, n, k, batch);                                       \
  }
STRIDED_BATCHED(cublasSgemmStridedBatched)
STRIDED_BATCHED(cublasDgemmStridedBatched)
API int cublasGemmStridedBatchedEx(Handle *handle, int, int, int m, int n, int k, const void *,
                                   const void *, int, int, long long, const void *, int, int,
                                   long long, const void *, void *, int, int, long long, int batch,
                                   int, int) {
  return product("cublasGemmStridedBatchedEx", handle->stream, m, n, k, batch);
}

// --- cuBLASLt ------------------------------------------------------------------------------------

namespace {
struct Layout {
  uint64_t rows, columns;
  int batch = 1;
};
constexpr int BATCH_COUNT = 5;  // CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT

int make(void **out) {
  *out = calloc(1, 64);
  return 0;
}
int unmake(void *it) {
  free(it);
  return 0;
}
}  // namespace

API size_t cublasLtGetVersion() { return CUDART * 10; }
API int cublasLtCreate(void **out) { return make(out); }
API int cublasLtDestroy(void *it) { return unmake(it); }
API int cublasLtMatmulDescCreate(void **out, int, int) { return make(out); }
API int cublasLtMatmulDescDestroy(void *it) { return unmake(it); }
API int cublasLtMatmulDescSetAttribute(void *, int, const void *, size_t) { return 0; }
API int cublasLtMatmulPreferenceCreate(void **out) { return make(out); }
API int cublasLtMatmulPreferenceDestroy(void *it) { return unmake(it); }
API int cublasLtMatmulPreferenceSetAttribute(void *, int, const void *, size_t) { return 0; }
API int cublasLtMatrixLayoutCreate(Layout **out, int, uint64_t rows, uint64_t columns, int64_t) {
  *out = new Layout{rows, columns};
  return 0;
}
API int cublasLtMatrixLayoutDestroy(Layout *it) {
  delete it;
  return 0;
}
API int cublasLtMatrixLayoutSetAttribute(Layout *it, int which, const void *value, size_t) {
  if (which == BATCH_COUNT) it->batch = *static_cast<const int *>(value);
  return 0;
}
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
API int cublasLtMatmulAlgoGetHeuristic(void *, void *, void *, void *, void *, void *, void *, int,
                                       Heuristic *results, int *count) {
  *results = {};
  *count = 1;
  return 0;
}
API int cublasLtMatmul(void *, void *, const void *, const void *, Layout *a, const void *,
                       Layout *, const void *, const void *, Layout *, void *, Layout *d,
                       const void *, void *, size_t, void *stream) {
  double k = d->rows ? double(a->rows) * double(a->columns) / double(d->rows) : 0;
  return product("cublasLtMatmul", stream, double(d->rows), double(d->columns), k, d->batch);
}
