// A virtual GPU behind the ABI of the CUDA runtime, driver, cuBLAS and cuDNN.
//
// Device memory is host memory and copies really copy. Kernels compute nothing: they only take time
// on their stream. Streams, events, captures and graphs follow a device clock, which is
// CLOCK_MONOTONIC: each piece of work gets its begin and end when it is enqueued, so that the
// timeline is exact and a host that is preempted changes nothing about it. Written from NVIDIA's
// public documentation; no header of theirs is used.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

// Version of the CUDA runtime that torch was built against, as cudaRuntimeGetVersion gives it.
#ifndef CUDART
#define CUDART 13020
#endif

#define API extern "C" __attribute__((visibility("default")))

namespace vgpu {

enum Error {
  Success = 0,
  InvalidValue = 1,
  MemoryAllocation = 2,
  InitializationError = 3,
  NoDevice = 100,
  InvalidDevice = 101,
  InvalidResourceHandle = 400,
  IllegalState = 401,
  SymbolNotFound = 500,
  NotReady = 600,
  HostMemoryAlreadyRegistered = 712,
  HostMemoryNotRegistered = 713,
  NotSupported = 801,
  CaptureUnsupported = 900,
  CaptureInvalidated = 901,
  CaptureMerge = 902,
  CaptureUnmatched = 903,
  CaptureUnjoined = 904,
  CaptureIsolation = 905,
  CaptureImplicit = 906,
  CapturedEvent = 907,
  CaptureWrongThread = 908,
};

enum Mode { Global, ThreadLocal, Relaxed };  // of a capture, and of a thread
enum MemoryKind { Unregistered, Host, Device, Managed };

// What the timeline knows: work of the device, and of the host. An effect is not on it.
enum Kind { Kernel, CopyH2D, CopyD2H, CopyD2D, Memset, CopyH2H, HostFunction, Wait, Effect };

struct Record {  // one line of the timeline; Python reads the same layout
  int32_t kind, device;
  uint64_t stream;  // its handle, 0 for the legacy default stream
  int64_t begin_ns, end_ns, bytes;
  int32_t pageable, replayed;  // a copy from or to pageable memory; a node of a graph
  uint64_t thread;             // that enqueued it or waited
  char name[96];               // of the kernel, or of the call that waited
};

struct Event;
struct Capture;
struct Stream;

// Work as it is asked for: enqueued at once, or kept as a node of the graph under capture.
struct Work {
  Kind kind = Kernel;
  int64_t took_ns = 0, bytes = 0;
  bool pageable = false;
  std::string name;
  std::function<void()> effect;   // on memory, or a function of the host
  std::shared_ptr<Event> event;   // an event that is recorded in a graph, else null
};

struct Node {
  Work work;
  int64_t at_ns;  // after the begin of the graph
};

struct Graph {
  std::vector<std::shared_ptr<Node>> nodes;
  int64_t length_ns = 0;
};

struct Stream {
  int device = 0;
  bool blocking = true, legacy = false;
  int priority = 0;
  int64_t tail_ns = 0;              // when all that was enqueued ends
  std::deque<int64_t> pending_ns;   // ends of what is in its launch queue
  Capture *capture = nullptr;
  int64_t capture_tail_ns = 0;
  bool unjoined = false;
  uint64_t captured_work = 0;       // nodes that it added to a capture
};

struct Event {
  unsigned flags = 0;
  int device = 0;
  bool recorded = false;
  int64_t at_ns = 0;
  uint64_t captured = 0;  // id of the capture that it was last recorded in
  int64_t capture_at_ns = 0;
  Stream *source = nullptr;
  uint64_t source_work = 0;
};

struct Capture {
  uint64_t id;
  Mode mode;
  pthread_t thread;
  Stream *origin;
  std::set<Stream *> streams;
  std::unique_ptr<Graph> graph;
  bool valid = true;
};

struct Allocation {
  size_t size;
  MemoryKind kind;
  int device;
  bool ours;  // mapped by us, and not the program's own memory that it registered
};

struct Card {
  Stream legacy;
  size_t used = 0, high = 0;
  bool context = false;
  std::set<Stream *> streams;
  // Busy time: of work that has ended, and the union of what is yet to end.
  int64_t settled_busy_ns = 0;
  std::vector<std::pair<int64_t, int64_t>> busy;
};

constexpr int MAX_CARDS = 16;
constexpr double CLOCK_GHZ = 1.41;
constexpr const char *CARD_NAME = "virtual GPU";
constexpr size_t MAX_RECORDS = 500000;

struct Fault {
  int error;
  int64_t times;  // -1: always
};

// How the device behaves. Tests change it, `State::initial` brings it back.
struct Script {
  size_t memory = 80ull << 30, context_memory = 500ull << 20;
  double kernel_s = 3e-6, flops_s = 150e12;  // the shortest kernel, and what cuBLAS reaches
  double copy_latency_s = 2e-6, host_bytes_s = 25e9, device_bytes_s = 1.5e12;
  size_t queue_depth = 1024;    // launches that a stream holds before the host must wait
  bool exclusive = false;       // one kernel at a time on a device, whatever its stream
  size_t copied_limit = 16 << 20;  // of a longer copy only the start is really copied
  std::vector<std::pair<std::string, double>> kernel_times_s;  // by a part of the name, last wins
  std::map<std::string, Fault> faults;
  int sticky = 0;  // an error of the device that every later call gives
};

struct State : Script {
  std::mutex lock;
  Card cards[MAX_CARDS];
  int visible[MAX_CARDS];  // the physical index of each
  int count = 1;
  Script initial;  // as the environment has it
  pid_t owner = 0;  // a forked child can't use what its parent initialized

  bool log = false;

  // What there is.
  std::map<uintptr_t, Allocation> memory_map;
  std::unordered_map<void *, std::shared_ptr<Event>> events;
  std::map<uint64_t, Capture *> captures;
  uint64_t next_capture = 1;
  std::unordered_map<const void *, std::string> kernels;
  std::unordered_map<const void *, void *> variables;

  // What was done.
  std::map<std::string, int64_t> calls;
  std::vector<Record> timeline;
};

using Lock = std::unique_lock<std::mutex>;

State &state();
int64_t now_ns();
extern thread_local int current_device;
extern thread_local Mode thread_mode;

// --- state.cpp: every call goes through these ---------------------------------------------------
int fail(int error);  // remembers it as the thread's last error
int called(const char *api);  // counts the call; an injected or sticky error, else 0
Card &card();  // of the thread's current device, with its context
Stream *stream_of(void *handle);
std::shared_ptr<Event> event_of(void *handle);
int unsafe_call();  // the error of a call that captures forbid, else 0
void invalidate(Capture *capture);
void uuid_of(int device, unsigned char *bytes);
int device_attribute(int which, int device);
uint64_t thread_id();

// --- timeline.cpp: all with the lock held -------------------------------------------------------
int enqueue(Stream *stream, Work work, Lock &held);
void record_event(const std::shared_ptr<Event> &event, Stream *stream);
int replay(const Graph &graph, Stream *stream, Lock &held);
// Let the host wait, without the lock; what it waited is on the timeline.
void wait_until(int64_t at_ns, const char *api, int device, Stream *stream, Lock &held);
int64_t start_of(Stream *stream);
int64_t device_tail(int device);
int64_t kernel_ns(const char *name, double work_s);

// --- memory.cpp ---------------------------------------------------------------------------------
const Allocation *find(const void *pointer, uintptr_t *base = nullptr);

// --- kernels.cpp: what cuBLAS, cuDNN and the driver launch ---------------------------------------
// One kernel on a stream (a handle of the runtime); `work_s` is how long it takes unless scripted.
int launch(const char *name, void *stream, double work_s = 0);

}  // namespace vgpu

// At the start of an entry point: counts it and holds the lock. `s` is the state.
#define CALLED(api)                                  \
  if (int error_ = vgpu::called(#api)) return vgpu::fail(error_); \
  vgpu::State &s = vgpu::state();                    \
  vgpu::Lock held(s.lock);                           \
  (void)s
