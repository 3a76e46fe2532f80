// cuDNN: handles, and graphs of operations of which each is one kernel.
#include "device.h"

#include <cstring>

// Version of cuDNN that torch was built against.
#ifndef CUDNN
#define CUDNN 91900
#endif

using vgpu::launch;

namespace {
struct Handle {
  void *stream = nullptr;
};
}  // namespace

API size_t cudnnGetVersion() { return CUDNN; }
API size_t cudnnGetCudartVersion() { return CUDART; }
API const char *cudnnGetErrorString(int) { return "cuDNN status of the virtual GPU"; }
API void cudnnGetLastErrorString(char *text, size_t size) {
  if (size) *text = 0;
}
API int cudnnGetProperty(int type, int *value) {
  size_t v = cudnnGetVersion();
  *value = type == 0 ? int(v / 10000) : type == 1 ? int(v % 10000 / 100) : int(v % 100);
  return 0;
}
API int cudnnCreate(Handle **out) {
  *out = new Handle;
  return 0;
}
API int cudnnDestroy(Handle *handle) {
  delete handle;
  return 0;
}
API int cudnnSetStream(Handle *handle, void *stream) {
  handle->stream = stream;
  return 0;
}
API int cudnnGetStream(Handle *handle, void **stream) {
  *stream = handle->stream;
  return 0;
}

constexpr int EXECUTION_FAILED = 5000;

// Of the older API: each computation takes its handle first.
API int virtual_gpu_dnn(Handle *handle, const char *name) {
  return launch(name, handle->stream) ? EXECUTION_FAILED : 0;
}

// The graph API of cuDNN: descriptors keep what they are given; any graph has one engine.
// Numbers are those of cudnnBackendAttributeType_t and cudnnBackendAttributeName_t.
namespace {
struct Attribute {
  int64_t count;
  std::vector<char> bytes;
};
struct Descriptor {
  int type;
  std::map<int, Attribute> attributes;
};
size_t size_of(int type) {
  switch (type) {
    case 0: case 3: case 5: case 6: case 15: return 8;
    case 2: case 24: return 1;
    case 26: return 16;
    default: return 4;
  }
}
}  // namespace

API int cudnnBackendCreateDescriptor(int type, Descriptor **out) {
  *out = new Descriptor{type, {}};
  return 0;
}
API int cudnnBackendDestroyDescriptor(Descriptor *it) {
  delete it;
  return 0;
}
API int cudnnBackendInitialize(Descriptor *) { return 0; }
API int cudnnBackendFinalize(Descriptor *) { return 0; }
API int cudnnBackendSetAttribute(Descriptor *it, int name, int type, int64_t count,
                                 const void *values) {
  auto *bytes = static_cast<const char *>(values);
  it->attributes[name] = {count, {bytes, bytes + (bytes ? size_t(count) * size_of(type) : 0)}};
  return 0;
}
API int cudnnBackendGetAttribute(Descriptor *it, int name, int type, int64_t asked, int64_t *count,
                                 void *values) {
  constexpr int RESULTS = 202, CONFIG_ENGINE = 300, CONFIG_WORKSPACE = 303, PLAN_WORKSPACE = 402,
                ENGINES = 802, INDEX = 1301;
  auto found = it->attributes.find(name);
  if (found != it->attributes.end()) {
    if (count) *count = found->second.count;
    if (values && asked > 0)
      memcpy(values, found->second.bytes.data(),
             size_t(asked < found->second.count ? asked : found->second.count) * size_of(type));
    return 0;
  }
  int64_t number = name == ENGINES;
  switch (name) {
    case RESULTS: case CONFIG_ENGINE:  // the caller's own descriptors stand for ours
      if (count) *count = 1;
      return 0;
    case CONFIG_WORKSPACE: case PLAN_WORKSPACE: case ENGINES: case INDEX:
      if (count) *count = 1;
      if (values && asked > 0) memcpy(values, &number, 8);
      return 0;
    default:
      if (count) *count = 0;
      if (type == 24 && values && asked > 0) *static_cast<char *>(values) = 0;
      return 0;
  }
}
API int cudnnBackendExecute(Handle *handle, Descriptor *, Descriptor *) {
  return launch("cudnn", handle->stream) ? EXECUTION_FAILED : 0;
}
