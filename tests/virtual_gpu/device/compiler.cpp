// NVRTC, by which torch makes some of its kernels at run time: a program compiles to nothing.
#include "device.h"

#include <cstring>

namespace {
struct Program {
  std::string name;  // of the expression that its kernel is an instance of
};
}  // namespace

API const char *nvrtcGetErrorString(int) { return "NVRTC status of the virtual GPU"; }
API int nvrtcVersion(int *major, int *minor) {
  *major = CUDART / 1000;
  *minor = CUDART % 1000 / 10;
  return 0;
}
API int nvrtcGetNumSupportedArchs(int *count) {
  *count = 1;
  return 0;
}
API int nvrtcGetSupportedArchs(int *architectures) {
  *architectures = 80;
  return 0;
}
API int nvrtcCreateProgram(Program **out, const char *, const char *, int, const char *const *,
                           const char *const *) {
  *out = new Program;
  return 0;
}
API int nvrtcDestroyProgram(Program **program) {
  delete *program;
  *program = nullptr;
  return 0;
}
API int nvrtcAddNameExpression(Program *program, const char *expression) {
  program->name = expression;
  return 0;
}
API int nvrtcCompileProgram(Program *, int, const char *const *) { return 0; }
API int nvrtcGetLoweredName(Program *program, const char *, const char **name) {
  *name = program->name.c_str();
  return 0;
}
#define ONE_BYTE(size, get)              \
  API int size(Program *, size_t *out) { \
    *out = 1;                            \
    return 0;                            \
  }                                      \
  API int get(Program *, char *out) {    \
    *out = 0;                            \
    return 0;                            \
  }
ONE_BYTE(nvrtcGetPTXSize, nvrtcGetPTX)
ONE_BYTE(nvrtcGetCUBINSize, nvrtcGetCUBIN)
ONE_BYTE(nvrtcGetProgramLogSize, nvrtcGetProgramLog)
