// Device and pinned memory, copies, and what the driver offers for expandable segments.
#include "device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace vgpu;

namespace vgpu {

const Allocation *find(const void *pointer, uintptr_t *base) {
  auto &map = state().memory_map;
  auto it = map.upper_bound(uintptr_t(pointer));
  if (it == map.begin()) return nullptr;
  --it;
  if (uintptr_t(pointer) >= it->first + std::max<size_t>(it->second.size, 1)) return nullptr;
  if (base) *base = it->first;
  return &it->second;
}

}  // namespace vgpu

namespace {

bool fits(const Card &c, size_t size) {
  State &s = state();
  return c.used + size + s.context_memory <= s.memory;
}

void take(Card &c, size_t size) { c.high = std::max(c.high, c.used += size); }

int allocate(void **pointer, size_t size, MemoryKind kind) {
  State &s = state();
  Card &c = card();
  *pointer = nullptr;
  if (!size) return Success;
  size_t rounded = (size + 511) & ~size_t(511);
  if (kind == Device && !fits(c, rounded)) return MemoryAllocation;
  void *made = mmap(nullptr, rounded, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) return MemoryAllocation;
  if (kind == Device) take(c, rounded);
  s.memory_map[uintptr_t(made)] = {rounded, kind, current_device, true};
  *pointer = made;
  return Success;
}

int release(void *pointer) {
  State &s = state();
  if (!pointer) return Success;
  auto it = s.memory_map.find(uintptr_t(pointer));
  if (it == s.memory_map.end()) return InvalidValue;
  if (it->second.kind == Device) s.cards[it->second.device].used -= it->second.size;
  munmap(pointer, it->second.size);
  s.memory_map.erase(it);
  return Success;
}

struct Plan {
  Work work;
  bool waits;  // the host does not go on before the copy is done
};

Plan plan_copy(const void *to, const void *from, size_t size) {
  State &s = state();
  const Allocation *target = find(to), *source = find(from);
  bool to_device = target && target->kind != Host, from_device = source && source->kind != Host;
  bool pageable = (!to_device && !target) || (!from_device && !source);
  bool inside = to_device && from_device;
  Plan plan;
  plan.work.kind = inside ? CopyD2D : to_device ? CopyH2D : from_device ? CopyD2H : CopyH2H;
  plan.work.bytes = int64_t(size);
  plan.work.pageable = pageable;
  double seconds = s.copy_latency_s + size / (inside ? s.device_bytes_s : s.host_bytes_s);
  plan.work.took_ns = int64_t(seconds * 1e9);
  // A small copy from pageable memory is staged at once; every other pageable copy waits.
  constexpr size_t STAGED = 65536;
  plan.waits = (from_device && !to_device && pageable) ||
               (to_device && !from_device && pageable && size > STAGED) ||
               plan.work.kind == CopyH2H;
  return plan;
}

int copy(const char *api, Plan plan, std::function<void()> effect, void *handle, Lock &held) {
  Stream *stream = stream_of(handle);
  if (stream->capture && plan.waits) {
    invalidate(stream->capture);
    return CaptureUnsupported;
  }
  plan.work.name = api;
  plan.work.effect = std::move(effect);
  if (int error = enqueue(stream, plan.work, held)) return error;
  if (plan.waits) wait_until(stream->tail_ns, api, stream->device, stream, held);
  return Success;
}

int copy(const char *api, void *to, const void *from, size_t size, void *stream, Lock &held,
         bool must_wait = false) {
  Plan plan = plan_copy(to, from, size);
  plan.waits |= must_wait;
  size_t moved = std::min(size, state().copied_limit);
  return copy(api, plan, [=] { memmove(to, from, moved); }, stream, held);
}

}  // namespace

// --- allocations --------------------------------------------------------------------------------

API int cudaMalloc(void **pointer, size_t size) {
  CALLED(cudaMalloc);
  if (int error = unsafe_call()) return fail(error);
  return fail(allocate(pointer, size, Device));
}
API int cudaMallocManaged(void **pointer, size_t size, unsigned) {
  CALLED(cudaMallocManaged);
  if (int error = unsafe_call()) return fail(error);
  return fail(allocate(pointer, size, Managed));
}
API int cudaFree(void *pointer) {
  CALLED(cudaFree);
  card();
  if (!pointer) return Success;
  if (int error = unsafe_call()) return fail(error);
  const Allocation *found = find(pointer);
  if (found && device_tail(found->device) > now_ns())
    wait_until(device_tail(found->device), "cudaFree", found->device, nullptr, held);
  return fail(release(pointer));
}
API int cudaMallocAsync(void **pointer, size_t size, void *) {
  CALLED(cudaMallocAsync);
  return fail(allocate(pointer, size, Device));
}
API int cudaFreeAsync(void *pointer, void *) {
  CALLED(cudaFreeAsync);
  return fail(release(pointer));
}
API int cudaHostAlloc(void **pointer, size_t size, unsigned) {
  CALLED(cudaHostAlloc);
  if (int error = unsafe_call()) return fail(error);
  return fail(allocate(pointer, size, Host));
}
API int cudaMallocHost(void **pointer, size_t size) { return cudaHostAlloc(pointer, size, 0); }
API int cudaFreeHost(void *pointer) {
  CALLED(cudaFreeHost);
  if (int error = unsafe_call()) return fail(error);
  return fail(release(pointer));
}
API int cudaHostGetDevicePointer(void **out, void *pointer, unsigned) {
  CALLED(cudaHostGetDevicePointer);
  *out = pointer;
  return Success;
}
API int cudaHostRegister(void *pointer, size_t size, unsigned) {
  CALLED(cudaHostRegister);
  if (find(pointer)) return fail(HostMemoryAlreadyRegistered);
  s.memory_map[uintptr_t(pointer)] = {size, Host, current_device, false};
  return Success;
}
API int cudaHostUnregister(void *pointer) {
  CALLED(cudaHostUnregister);
  auto it = s.memory_map.find(uintptr_t(pointer));
  if (it == s.memory_map.end() || it->second.ours) return fail(HostMemoryNotRegistered);
  s.memory_map.erase(it);
  return Success;
}

struct PointerAttributes {
  int type, device;
  void *device_pointer, *host_pointer;
  long reserved[8];  // since CUDA 13
};
API int cudaPointerGetAttributes(PointerAttributes *out, const void *pointer) {
  CALLED(cudaPointerGetAttributes);
  const Allocation *found = find(pointer);
  memset(out, 0, CUDART < 13000 ? offsetof(PointerAttributes, reserved) : sizeof *out);
  out->type = found ? found->kind : Unregistered;
  out->device = found ? found->device : -2;
  if (found) out->device_pointer = const_cast<void *>(pointer);
  if (!found || found->kind != Device) out->host_pointer = const_cast<void *>(pointer);
  return Success;
}
API int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  CALLED(cudaMemGetInfo);
  *total = s.memory;
  *free_bytes = s.memory - card().used - s.context_memory;
  return Success;
}

// --- copies -------------------------------------------------------------------------------------

API int cudaMemcpyAsync(void *to, const void *from, size_t size, int, void *stream) {
  CALLED(cudaMemcpyAsync);
  return fail(copy("cudaMemcpyAsync", to, from, size, stream, held));
}
API int cudaMemcpy(void *to, const void *from, size_t size, int) {
  CALLED(cudaMemcpy);
  if (int error = unsafe_call()) return fail(error);
  return fail(copy("cudaMemcpy", to, from, size, nullptr, held, true));
}
API int cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t size, void *stream) {
  CALLED(cudaMemcpyPeerAsync);
  return fail(copy("cudaMemcpyPeerAsync", to, from, size, stream, held));
}
API int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                          size_t width, size_t height, int, void *stream) {
  CALLED(cudaMemcpy2DAsync);
  auto rows = [=] {
    for (size_t row = 0; row < height; ++row)
      memmove(static_cast<char *>(to) + row * to_pitch,
              static_cast<const char *>(from) + row * from_pitch, width);
  };
  return fail(copy("cudaMemcpy2DAsync", plan_copy(to, from, width * height), rows, stream, held));
}
API int cudaMemsetAsync(void *to, int value, size_t size, void *stream) {
  CALLED(cudaMemsetAsync);
  Work work;
  work.kind = Memset;
  work.name = "cudaMemsetAsync";
  work.bytes = int64_t(size);
  work.took_ns = int64_t((s.copy_latency_s + size / s.device_bytes_s) * 1e9);
  work.effect = [=] { memset(to, value, size); };
  return fail(enqueue(stream_of(stream), std::move(work), held));
}
API int cudaMemset(void *to, int value, size_t size) {
  return cudaMemsetAsync(to, value, size, nullptr);
}
API int cudaMemcpyToSymbol(const void *symbol, const void *from, size_t size, size_t offset, int) {
  CALLED(cudaMemcpyToSymbol);
  auto it = s.variables.find(symbol);
  if (it == s.variables.end()) return fail(SymbolNotFound);
  memcpy(static_cast<char *>(it->second) + offset, from, size);
  return Success;
}
API int cudaGetSymbolAddress(void **pointer, const void *symbol) {
  CALLED(cudaGetSymbolAddress);
  auto it = s.variables.find(symbol);
  if (it == s.variables.end()) return fail(SymbolNotFound);
  *pointer = it->second;
  return Success;
}

// --- the device's default pool, of cudaMallocAsync ----------------------------------------------

constexpr uintptr_t POOL = 0x1000;
API int cudaDeviceGetDefaultMemPool(void **pool, int device) {
  *pool = reinterpret_cast<void *>(POOL + uintptr_t(device));
  return Success;
}
API int cudaMemPoolSetAttribute(void *pool, int which, void *) {
  CALLED(cudaMemPoolSetAttribute);
  Card &c = s.cards[uintptr_t(pool) - POOL];
  if (which == 6 || which == 8) c.high = c.used;
  return Success;
}
API int cudaMemPoolGetAttribute(void *pool, int which, void *value) {
  CALLED(cudaMemPoolGetAttribute);
  Card &c = s.cards[uintptr_t(pool) - POOL];
  switch (which) {
    case 5: case 7: *static_cast<uint64_t *>(value) = c.used; break;
    case 6: case 8: *static_cast<uint64_t *>(value) = c.high; break;
    case 4: *static_cast<uint64_t *>(value) = 0; break;
    default: memset(value, 0, 4);
  }
  return Success;
}
API int cudaMemPoolTrimTo(void *, size_t) { return Success; }
API int cudaMemPoolSetAccess(void *, const void *, size_t) { return Success; }

// --- virtual memory management, which expandable segments use ------------------------------------

struct Physical {
  size_t size;
  int device;
};
API int cuMemGetAllocationGranularity(size_t *granularity, const void *, int) {
  *granularity = 2 << 20;
  return Success;
}
API int cuMemAddressReserve(uintptr_t *pointer, size_t size, size_t, uintptr_t, uint64_t) {
  CALLED(cuMemAddressReserve);
  void *made = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) return MemoryAllocation;
  *pointer = uintptr_t(made);
  return Success;
}
API int cuMemAddressFree(uintptr_t pointer, size_t size) {
  CALLED(cuMemAddressFree);
  munmap(reinterpret_cast<void *>(pointer), size);
  return Success;
}
API int cuMemCreate(Physical **out, size_t size, const void *, uint64_t) {
  CALLED(cuMemCreate);
  Card &c = card();
  if (!fits(c, size)) return MemoryAllocation;
  take(c, size);
  *out = new Physical{size, current_device};
  return Success;
}
API int cuMemRelease(Physical *it) {
  CALLED(cuMemRelease);
  s.cards[it->device].used -= it->size;
  delete it;
  return Success;
}
API int cuMemMap(uintptr_t pointer, size_t size, size_t, Physical *it, uint64_t) {
  CALLED(cuMemMap);
  s.memory_map[pointer] = {size, Device, it->device, true};
  return Success;
}
API int cuMemSetAccess(uintptr_t pointer, size_t size, const void *, size_t) {
  CALLED(cuMemSetAccess);
  mprotect(reinterpret_cast<void *>(pointer), size, PROT_READ | PROT_WRITE);
  return Success;
}
API int cuMemUnmap(uintptr_t pointer, size_t size) {
  CALLED(cuMemUnmap);
  auto from = s.memory_map.lower_bound(pointer), to = s.memory_map.lower_bound(pointer + size);
  s.memory_map.erase(from, to);
  mmap(reinterpret_cast<void *>(pointer), size, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  return Success;
}
