// Captures and graphs. Which calls a capture forbids follows NVIDIA's documentation.
#include "device.h"

#include <algorithm>

using namespace vgpu;

API int cudaThreadExchangeStreamCaptureMode(int *mode) {
  CALLED(cudaThreadExchangeStreamCaptureMode);
  int before = thread_mode;
  thread_mode = Mode(*mode);
  *mode = before;
  return Success;
}
API int cudaStreamBeginCapture(void *handle, int mode) {
  CALLED(cudaStreamBeginCapture);
  Stream *stream = stream_of(handle);
  if (stream->legacy) return fail(CaptureUnsupported);
  if (stream->capture) return fail(IllegalState);
  auto *capture = new Capture{s.next_capture++, Mode(mode), pthread_self(), stream, {stream},
                              std::make_unique<Graph>()};
  stream->capture = capture;
  stream->capture_tail_ns = 0;
  s.captures[capture->id] = capture;
  return Success;
}
API int cudaStreamEndCapture(void *handle, void **graph) {
  CALLED(cudaStreamEndCapture);
  Stream *stream = stream_of(handle);
  Capture *capture = stream->capture;
  *graph = nullptr;
  if (!capture) return fail(IllegalState);
  if (stream != capture->origin) {
    invalidate(capture);
    return fail(CaptureUnmatched);
  }
  if (capture->mode != Relaxed && !pthread_equal(capture->thread, pthread_self()))
    return fail(CaptureWrongThread);
  bool unjoined = false;
  for (Stream *member : capture->streams) {
    unjoined |= member != stream && member->unjoined;
    member->capture = nullptr;
    member->unjoined = false;
  }
  s.captures.erase(capture->id);
  int error = !capture->valid ? CaptureInvalidated : unjoined ? CaptureUnjoined : Success;
  if (!error) *graph = capture->graph.release();
  delete capture;
  return fail(error);
}
API int cudaStreamIsCapturing(void *handle, int *status) {
  CALLED(cudaStreamIsCapturing);
  Stream *stream = stream_of(handle);
  *status = !stream->capture ? 0 : stream->capture->valid ? 1 : 2;
  if (stream->legacy)
    for (Stream *other : s.cards[stream->device].streams)
      if (other->blocking && other->capture) return fail(CaptureImplicit);
  return Success;
}

static int capture_info(void *handle, int *status, unsigned long long *id, void **graph,
                        const void **dependencies, size_t *count) {
  Stream *stream = stream_of(handle);
  Capture *capture = stream->capture;
  *status = !capture ? 0 : capture->valid ? 1 : 2;
  if (id) *id = capture ? capture->id : 0;
  if (graph) *graph = capture ? capture->graph.get() : nullptr;
  if (dependencies) *dependencies = nullptr;
  if (count) *count = 0;
  return Success;
}
#if CUDART >= 13000
API int cudaStreamGetCaptureInfo(void *handle, int *status, unsigned long long *id, void **graph,
                                 const void **dependencies, const void **edges, size_t *count) {
  CALLED(cudaStreamGetCaptureInfo);
  if (edges) *edges = nullptr;
  return capture_info(handle, status, id, graph, dependencies, count);
}
#else
API int cudaStreamGetCaptureInfo_v2(void *handle, int *status, unsigned long long *id,
                                    void **graph, const void **dependencies, size_t *count) {
  CALLED(cudaStreamGetCaptureInfo);
  return capture_info(handle, status, id, graph, dependencies, count);
}
#endif

// An executable graph is a graph of its own, whose nodes it shares.
API int cudaGraphInstantiate(void **out, void *graph, unsigned long long) {
  CALLED(cudaGraphInstantiate);
  *out = new Graph(*static_cast<Graph *>(graph));
  return Success;
}
API int cudaGraphInstantiateWithFlags(void **out, void *graph, unsigned long long flags) {
  return cudaGraphInstantiate(out, graph, flags);
}
API int cudaGraphUpload(void *, void *) { return Success; }
API int cudaGraphDestroy(void *graph) {
  CALLED(cudaGraphDestroy);
  delete static_cast<Graph *>(graph);
  return Success;
}
API int cudaGraphExecDestroy(void *exec) {
  CALLED(cudaGraphExecDestroy);
  delete static_cast<Graph *>(exec);
  return Success;
}
API int cudaGraphGetNodes(void *graph, void **nodes, size_t *count) {
  CALLED(cudaGraphGetNodes);
  auto &all = static_cast<Graph *>(graph)->nodes;
  if (nodes)
    for (size_t i = 0; i < std::min(*count, all.size()); ++i) nodes[i] = all[i].get();
  *count = all.size();
  return Success;
}
API int cudaGraphNodeGetType(void *node, int *type) {
  CALLED(cudaGraphNodeGetType);
  constexpr int KERNEL = 0, COPY = 1, MEMSET = 2, HOST = 3, EVENT = 7;
  const Work &work = static_cast<Node *>(node)->work;
  constexpr int EMPTY = 5;
  *type = work.event                  ? EVENT
          : work.kind == Effect       ? EMPTY
          : work.kind == Kernel       ? KERNEL
          : work.kind == Memset       ? MEMSET
          : work.kind == HostFunction ? HOST
                                      : COPY;
  return Success;
}
API int cudaGraphLaunch(void *exec, void *handle) {
  CALLED(cudaGraphLaunch);
  Stream *stream = stream_of(handle);
  if (stream->capture) return fail(NotSupported);
  Graph graph = *static_cast<Graph *>(exec);
  return fail(replay(graph, stream, held));
}

// torch keeps what a graph uses alive by itself.
API int cudaUserObjectCreate(void **out, void *, void (*)(void *), unsigned, unsigned) {
  *out = reinterpret_cast<void *>(1);
  return Success;
}
API int cudaGraphRetainUserObject(void *, void *, unsigned, unsigned) { return Success; }
API int cudaUserObjectRelease(void *, unsigned) { return Success; }

// Where this thread captures: something that each replay does at once, and takes no time. The
// graph drops its data at its own end. False where nothing is captured.
API int virtual_gpu_capture_effect(void (*run)(void *), void (*drop)(void *), void *data) {
  State &s = state();
  Lock held(s.lock);
  for (auto &[id, capture] : s.captures)
    if (pthread_equal(capture->thread, pthread_self()) && capture->valid) {
      std::shared_ptr<void> kept(data, drop);
      Work work;
      work.kind = Effect;
      work.effect = [=] { run(kept.get()); };
      capture->graph->nodes.push_back(
          std::make_shared<Node>(Node{std::move(work), capture->origin->capture_tail_ns}));
      return 1;
    }
  return 0;
}
