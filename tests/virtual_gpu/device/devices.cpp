// What the devices are: attributes, properties and identities.
#include "device.h"

#include <cstdio>
#include <cstring>

using namespace vgpu;

namespace vgpu {

// The UUID that the fake NVML gives the same index: GPU-00000000-0000-0000-0000-0000000000NN.
void uuid_of(int device, unsigned char *bytes) {
  memset(bytes, 0, 16);
  bytes[15] = static_cast<unsigned char>(state().visible[device]);
}

// By the numbers of cudaDeviceAttr, those of an A100. What is not named is not there.
int device_attribute(int which, int device) {
  switch (which) {
    case 1: return 1024;                   // threads of a block
    case 2: case 3: return 1024;           // and of it in x, y and z
    case 4: return 64;
    case 5: return 2147483647;             // blocks of a grid in x, y and z
    case 6: case 7: return 65535;
    case 8: return 49152;                  // shared memory of a block
    case 9: return 65536;                  // constant memory
    case 10: return 32;                    // threads of a warp
    case 11: return 2147483647;            // pitch
    case 12: return 65536;                 // registers of a block
    case 13: return int(CLOCK_GHZ * 1e6);  // clock in kHz
    case 14: return 512;                   // alignment of textures
    case 16: return 108;                   // multiprocessors
    case 19: return 1;                     // host memory can be mapped
    case 31: return 1;                     // kernels run concurrently
    case 33: return 0x1b + state().visible[device];  // bus
    case 36: return 1593000;               // memory clock in kHz
    case 37: return 5120;                  // memory bus in bits
    case 38: return 40 << 20;              // L2 cache
    case 39: return 2048;                  // threads of a multiprocessor
    case 40: return 3;                     // copy engines
    case 41: return 1;                     // unified addresses
    case 75: return 8;                     // capability
    case 76: return 0;
    case 78: return 1;                     // stream priorities
    case 79: case 80: return 1;            // L1 caches
    case 81: return 167936;                // shared memory of a multiprocessor
    case 82: return 65536;                 // its registers
    case 83: return 1;                     // managed memory
    case 95: return 1;                     // cooperative launches
    case 97: return 166912;                // shared memory of a block on request
    case 99: return 1;                     // memory of the host can be registered
    case 102: return 1;                    // virtual memory management: expandable segments
    case 106: return 32;                   // blocks of a multiprocessor
    case 111: return 1024;                 // shared memory that is reserved
    case 115: return 1;                    // memory pools
    default: return 0;
  }
}

}  // namespace vgpu

API int cudaGetDeviceCount(int *count) {
  CALLED(cudaGetDeviceCount);
  *count = s.count;
  return s.count ? Success : fail(NoDevice);
}
API int cudaGetDevice(int *device) {
  CALLED(cudaGetDevice);
  *device = current_device;
  return Success;
}
API int cudaSetDevice(int device) {
  CALLED(cudaSetDevice);
  if (device < 0 || device >= s.count) return fail(InvalidDevice);
  current_device = device;
  card();
  return Success;
}
API int cudaDriverGetVersion(int *version) {
  *version = CUDART;
  return Success;
}
API int cudaRuntimeGetVersion(int *version) {
  *version = CUDART;
  return Success;
}
API int cudaDeviceGetAttribute(int *value, int which, int device) {
  CALLED(cudaDeviceGetAttribute);
  if (device < 0 || device >= s.count) return fail(InvalidDevice);
  *value = device_attribute(which, device);
  return Success;
}
API int cudaDeviceGetPCIBusId(char *text, int size, int device) {
  CALLED(cudaDeviceGetPCIBusId);
  snprintf(text, size_t(size), "0000:%02x:00.0", 0x1b + s.visible[device]);
  return Success;
}
API int cudaDeviceCanAccessPeer(int *can, int, int) {
  CALLED(cudaDeviceCanAccessPeer);
  *can = 1;
  return Success;
}
API int cudaDeviceEnablePeerAccess(int, unsigned) { return Success; }
API int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  CALLED(cudaDeviceGetStreamPriorityRange);
  *least = 0;
  *greatest = -5;
  return Success;
}

namespace {
// The layout of cudaDeviceProp, of CUDA 13 and of 12.
struct Properties {
  char name[256];
  unsigned char uuid[16];
  char luid[8];
  unsigned luid_mask;
  size_t total, shared_block;
  int registers_block, warp;
  size_t pitch;
  int threads_block, threads_dim[3], grid[3];
#if CUDART < 13000
  int clock_khz;
#endif
  size_t constant;
  int major, minor;
  size_t texture_alignment, texture_pitch;
#if CUDART < 13000
  int overlap;
#endif
  int processors;
#if CUDART < 13000
  int timeout;
#endif
  int integrated, map_host;
#if CUDART < 13000
  int compute_mode;
#endif
  int texture1d, texture1d_mip;
#if CUDART < 13000
  int texture1d_linear;
#endif
  int texture2d[2], texture2d_mip[2], texture2d_linear[3], texture2d_gather[2], texture3d[3],
      texture3d_alt[3], cube, layered1d[2], layered2d[3], cube_layered[2], surface1d, surface2d[2],
      surface3d[3], surface1d_layered[2], surface2d_layered[3], surface_cube,
      surface_cube_layered[2];
  size_t surface_alignment;
  int concurrent, ecc, bus, slot, domain, tcc, engines, unified;
#if CUDART < 13000
  int memory_khz;
#endif
  int bus_width, l2, l2_persisting, threads_processor, priorities, global_l1, local_l1;
  size_t shared_processor;
  int registers_processor, managed, multi_board, board_group, native_atomic;
#if CUDART < 13000
  int double_ratio;
#endif
  int pageable, concurrent_managed, preemption, host_pointer, cooperative;
#if CUDART < 13000
  int cooperative_multi;
#endif
  size_t shared_optin;
  int page_tables, direct_managed, blocks_processor, window;
  size_t reserved_shared;
  int host_register, sparse, register_readonly, timeline, pools, rdma;
  unsigned rdma_flush;
  int rdma_writes;
  unsigned pool_handles;
  int deferred, ipc_event, cluster, function_pointers;
  char rest[512];
};
}  // namespace

static int properties(void *out, int device) {
  State &s = state();
  if (device < 0 || device >= s.count) return fail(InvalidDevice);
  Properties p;
  memset(&p, 0, sizeof p);
  strcpy(p.name, CARD_NAME);
  uuid_of(device, p.uuid);
  p.total = s.memory;
  p.shared_block = 49152;
  p.registers_block = 65536;
  p.warp = 32;
  p.pitch = 2147483647;
  p.threads_block = 1024;
  p.threads_dim[0] = p.threads_dim[1] = 1024;
  p.threads_dim[2] = 64;
  p.grid[0] = 2147483647;
  p.grid[1] = p.grid[2] = 65535;
  p.constant = 65536;
  p.major = 8;
  p.texture_alignment = 512;
  p.processors = 108;
  p.map_host = 1;
  p.concurrent = p.ecc = 1;
  p.bus = 0x1b + s.visible[device];
  p.engines = 3;
  p.unified = 1;
  p.bus_width = 5120;
  p.l2 = 50 << 20;
  p.threads_processor = 2048;
  p.priorities = 1;
  p.shared_processor = 167936;
  p.registers_processor = 65536;
  p.managed = p.concurrent_managed = p.preemption = p.cooperative = 1;
  p.shared_optin = 166912;
  p.blocks_processor = 32;
  p.pools = 1;
  p.cluster = 1;
  // The true struct is longer than what is named here and shorter than ours.
  memcpy(out, &p, offsetof(Properties, rest) + 64);
  return Success;
}
API int cudaGetDeviceProperties(void *out, int device) {
  CALLED(cudaGetDeviceProperties);
  return properties(out, device);
}
API int cudaGetDeviceProperties_v2(void *out, int device) {
  CALLED(cudaGetDeviceProperties);
  return properties(out, device);
}
