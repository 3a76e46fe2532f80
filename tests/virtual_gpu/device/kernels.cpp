// Kernels: their names, how long they take, and how they are launched.
#include "device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace vgpu;

struct dim3 {
  unsigned x, y, z;
  double threads() const { return double(x) * y * z; }
};

namespace {

int launch_locked(const char *name, Stream *stream, double work_s, Lock &held) {
  Work work;
  work.name = name;
  work.took_ns = kernel_ns(name, work_s);
  return enqueue(stream, std::move(work), held);
}

// What a kernel of so many threads takes where nothing else is known: each reads 8 bytes and
// writes 4, at the speed of the memory.
double bytes_s(dim3 grid, dim3 block) {
  constexpr double BYTES_OF_A_THREAD = 12;
  return grid.threads() * block.threads() * BYTES_OF_A_THREAD / state().device_bytes_s;
}

int run(const void *function, dim3 grid, dim3 block, void *handle, void **arguments) {
  if (int error = called("kernel")) return fail(error);
  State &s = state();
  Lock held(s.lock);
  auto it = s.kernels.find(function);
  const char *name = it == s.kernels.end() ? "unknown" : it->second.c_str();
  Stream *stream = stream_of(handle);
  if (!strstr(name, "spin_kernel") || !arguments)
    return fail(launch_locked(name, stream, bytes_s(grid, block), held));
  Work work;  // torch.cuda._sleep(cycles)
  work.name = name;
  work.took_ns = int64_t(double(*static_cast<int64_t *>(arguments[0])) / CLOCK_GHZ);
  return fail(enqueue(stream, std::move(work), held));
}

}  // namespace

namespace vgpu {

int launch(const char *name, void *stream, double work_s) {
  if (int error = called("kernel")) return fail(error);
  State &s = state();
  Lock held(s.lock);
  return fail(launch_locked(name, stream_of(stream), work_s, held));
}

}  // namespace vgpu

// --- what the compiler's startup code registers --------------------------------------------------

API void **__cudaRegisterFatBinary(void *binary) { return static_cast<void **>(binary); }
API void __cudaRegisterFatBinaryEnd(void **) {}
API void __cudaUnregisterFatBinary(void **) {}
API void __cudaRegisterFunction(void **, const char *host, char *, const char *name, int, void *,
                                void *, void *, void *, int *) {
  State &s = state();
  Lock held(s.lock);
  s.kernels.emplace(host, name);
}
API void __cudaRegisterVar(void **, char *host, char *, const char *, int, size_t size, int, int) {
  State &s = state();
  Lock held(s.lock);
  s.variables[host] = calloc(1, std::max<size_t>(size, 1));
}

// --- launches of the runtime ---------------------------------------------------------------------

struct Configuration {
  dim3 grid, block;
  size_t shared;
  void *stream;
};
static thread_local std::vector<Configuration> configurations;
API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
API int __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  if (configurations.empty()) return InvalidValue;
  Configuration top = configurations.back();
  configurations.pop_back();
  *grid = top.grid;
  *block = top.block;
  *shared = top.shared;
  *static_cast<void **>(stream) = top.stream;
  return Success;
}
API int __cudaGetKernel(void **kernel, const void *function) {
  *kernel = const_cast<void *>(function);
  return Success;
}
API int cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t,
                         void *stream) {
  return run(function, grid, block, stream, arguments);
}
API int __cudaLaunchKernel(void *kernel, dim3 grid, dim3 block, void **arguments, size_t,
                           void *stream) {
  return run(kernel, grid, block, stream, arguments);
}
API int cudaLaunchCooperativeKernel(const void *function, dim3 grid, dim3 block, void **arguments,
                                    size_t, void *stream) {
  return run(function, grid, block, stream, arguments);
}
API int cudaLaunchKernelExC(const Configuration *given, const void *function, void **arguments) {
  return run(function, given->grid, given->block, given->stream, arguments);
}

struct FunctionAttributes {
  size_t shared, constant, local;
  int threads, registers, ptx, binary, cache, dynamic_shared, carveout;
};
API int cudaFuncGetAttributes(FunctionAttributes *out, const void *) {
  CALLED(cudaFuncGetAttributes);
  *out = {0, 0, 0, 1024, 32, 80, 80, 0, 166912, 0};
  return Success;
}
API int cudaFuncSetAttribute(const void *, int, int) { return Success; }
API int cudaKernelSetAttributeForDevice(void *, int, int, int) { return Success; }
API int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads,
                                                      size_t) {
  *blocks = threads > 0 ? std::max(1, 2048 / threads) : 1;
  return Success;
}
API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function,
                                                               int threads, size_t shared,
                                                               unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared);
}
API int cudaProfilerStart() { return Success; }
API int cudaProfilerStop() { return Success; }

// --- modules of the driver: Triton's kernels, which compute as little as all others --------------

// A function of a module is its name; Triton's binaries stay unread.
API int cuModuleLoadData(void **module, const void *) {
  CALLED(cuModuleLoadData);
  *module = new char;
  return Success;
}
API int cuModuleLoadDataEx(void **module, const void *image, unsigned, void *, void **) {
  return cuModuleLoadData(module, image);
}
API int cuModuleUnload(void *module) {
  delete static_cast<char *>(module);
  return Success;
}
API int cuModuleGetFunction(void **function, void *, const char *name) {
  CALLED(cuModuleGetFunction);
  auto *made = new std::string(name);  // lives as long as the process, as its launches refer to it
  s.kernels[made] = *made;
  *function = made;
  return Success;
}
API int cuFuncGetAttribute(int *value, int which, void *) {
  switch (which) {
    case 0: *value = 1024; break;  // threads of a block
    case 4: *value = 32; break;    // registers
    default: *value = 0;           // no spilled memory, no shared memory
  }
  return Success;
}
API int cuFuncSetAttribute(void *, int, int) { return Success; }
API int cuFuncSetCacheConfig(void *, int) { return Success; }
API int cuFuncGetModule(void **module, void *) {
  *module = nullptr;
  return Success;
}
struct DriverConfiguration {
  unsigned grid[3], block[3], shared;
  void *stream, *attributes;
  unsigned attribute_count;
};
API int cuLaunchKernelEx(const DriverConfiguration *given, void *function, void **arguments,
                         void **) {
  const unsigned *grid = given->grid, *block = given->block;
  return run(function, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, given->stream,
             arguments);
}
API int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned,
                       void *stream, void **arguments, void **) {
  return run(function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, stream, arguments);
}
API int cuOccupancyMaxActiveClusters(int *count, void *, const void *) {
  *count = 1;
  return Success;
}
