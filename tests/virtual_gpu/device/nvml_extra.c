/* What torch's own out-of-memory path asks of NVML, beside what tests/device/fake_nvml.c offers.
 *
 * Both are one library. The figures of a `live` device are what the virtual GPU does. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
  const int FIRST_BUS = 0x1b; /* as cudaDeviceGetPCIBusId says it, after the domain */
  const char *number = strchr(bus, ':');
  if (!number) return 2; /* NVML_ERROR_INVALID_ARGUMENT */
  return nvmlDeviceGetHandleByIndex_v2((unsigned)(strtol(number + 1, NULL, 16) - FIRST_BUS), device);
}
enum { NOT_SUPPORTED = 3 };
int nvmlDeviceGetNvLinkRemoteDeviceType(void) { return NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void) { return NOT_SUPPORTED; }
int nvmlDeviceGetGpuFabricInfoV(void) { return NOT_SUPPORTED; }
int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *count, void *processes) {
  (void)device;
  (void)processes;
  *count = 0;
  return 0;
}
extern int nvmlSystemGetCudaDriverVersion(int *version);
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  return nvmlSystemGetCudaDriverVersion(version);
}
