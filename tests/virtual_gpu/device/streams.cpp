// Streams and events.
#include "device.h"

#include <algorithm>

using namespace vgpu;

// --- streams ------------------------------------------------------------------------------------

API int cudaStreamCreateWithPriority(void **out, unsigned flags, int priority) {
  CALLED(cudaStreamCreateWithPriority);
  auto *stream = new Stream;
  stream->device = current_device;
  stream->blocking = !(flags & 1);
  stream->priority = priority;
  card().streams.insert(stream);
  *out = stream;
  return Success;
}
API int cudaStreamCreateWithFlags(void **out, unsigned flags) {
  return cudaStreamCreateWithPriority(out, flags, 0);
}
API int cudaStreamCreate(void **out) { return cudaStreamCreateWithPriority(out, 0, 0); }
API int cudaStreamDestroy(void *handle) {
  CALLED(cudaStreamDestroy);
  Stream *stream = stream_of(handle);
  if (!s.cards[stream->device].streams.erase(stream)) return fail(InvalidResourceHandle);
  delete stream;
  return Success;
}
API int cudaStreamGetPriority(void *handle, int *priority) {
  CALLED(cudaStreamGetPriority);
  *priority = stream_of(handle)->priority;
  return Success;
}

// What querying or waiting for a stream gives while something is captured.
static int capturing_call(Stream *stream) {
  if (stream->capture) {
    invalidate(stream->capture);
    return CaptureUnsupported;
  }
  if (stream->legacy)
    for (Stream *other : state().cards[stream->device].streams)
      if (other->blocking && other->capture) {
        invalidate(other->capture);
        return CaptureImplicit;
      }
  return unsafe_call();
}

API int cudaStreamQuery(void *handle) {
  CALLED(cudaStreamQuery);
  Stream *stream = stream_of(handle);
  if (int error = capturing_call(stream)) return fail(error);
  return fail(now_ns() >= stream->tail_ns ? Success : NotReady);
}
API int cudaStreamSynchronize(void *handle) {
  CALLED(cudaStreamSynchronize);
  Stream *stream = stream_of(handle);
  if (int error = capturing_call(stream)) return fail(error);
  int64_t tail_ns = stream->tail_ns;
  if (stream->legacy)
    for (Stream *other : s.cards[stream->device].streams)
      if (other->blocking) tail_ns = std::max(tail_ns, other->tail_ns);
  wait_until(tail_ns, "cudaStreamSynchronize", stream->device, stream, held);
  return fail(s.sticky);
}
API int cudaDeviceSynchronize() {
  CALLED(cudaDeviceSynchronize);
  for (Stream *stream : card().streams)
    if (stream->capture) {
      invalidate(stream->capture);
      return fail(CaptureUnsupported);
    }
  if (int error = unsafe_call()) return fail(error);
  int device = current_device;
  wait_until(device_tail(device), "cudaDeviceSynchronize", device, nullptr, held);
  return fail(s.sticky);
}

// In a capture: the stream joins the capture that the event was recorded in.
static int wait_captured(Stream *stream, Event &event) {
  State &s = state();
  auto it = s.captures.find(event.captured);
  if (it == s.captures.end()) return CapturedEvent;
  Capture *capture = it->second;
  if (!capture->valid) return CaptureInvalidated;
  if (stream->capture && stream->capture != capture) {
    invalidate(stream->capture);
    invalidate(capture);
    return CaptureMerge;
  }
  if (!stream->capture) {
    if (stream->legacy) return CaptureImplicit;
    stream->capture = capture;
    stream->capture_tail_ns = 0;
    stream->unjoined = true;
    capture->streams.insert(stream);
  }
  stream->capture_tail_ns = std::max(stream->capture_tail_ns, event.capture_at_ns);
  if (event.source && event.source != stream && event.source_work == event.source->captured_work)
    event.source->unjoined = false;
  return Success;
}

constexpr unsigned EXTERNAL = 1;  // an event outside of the graph

API int cudaStreamWaitEvent(void *handle, void *event_handle, unsigned flags) {
  CALLED(cudaStreamWaitEvent);
  Stream *stream = stream_of(handle);
  auto event = event_of(event_handle);
  if (!event) return fail(InvalidResourceHandle);
  if (event->captured) return fail(wait_captured(stream, *event));
  if (stream->capture) {
    if (flags & EXTERNAL || !event->recorded) return Success;
    invalidate(stream->capture);
    return fail(CaptureIsolation);
  }
  if (event->recorded) stream->tail_ns = std::max(stream->tail_ns, event->at_ns);
  return Success;
}

static int host_function(void *stream, std::function<void()> function, Lock &held) {
  Work work;
  work.kind = HostFunction;
  work.name = "host function";
  work.effect = std::move(function);
  return enqueue(stream_of(stream), std::move(work), held);
}
API int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
  CALLED(cudaLaunchHostFunc);
  return fail(host_function(stream, [=] { function(data); }, held));
}
API int cudaStreamAddCallback(void *stream, void (*function)(void *, int, void *), void *data,
                              unsigned) {
  CALLED(cudaStreamAddCallback);
  return fail(host_function(stream, [=] { function(stream, 0, data); }, held));
}

// --- events -------------------------------------------------------------------------------------

API int cudaEventCreateWithFlags(void **out, unsigned flags) {
  CALLED(cudaEventCreateWithFlags);
  card();
  auto event = std::make_shared<Event>();
  event->flags = flags;
  event->device = current_device;
  *out = event.get();
  s.events[event.get()] = event;
  return Success;
}
API int cudaEventCreate(void **out) { return cudaEventCreateWithFlags(out, 0); }
API int cudaEventDestroy(void *handle) {
  CALLED(cudaEventDestroy);
  return fail(s.events.erase(handle) ? Success : InvalidResourceHandle);
}

static int record(void *handle, void *stream_handle, unsigned flags, Lock &held) {
  auto event = event_of(handle);
  if (!event) return InvalidResourceHandle;
  Stream *stream = stream_of(stream_handle);
  if (stream->device != event->device) return InvalidResourceHandle;
  if (!stream->capture) {
    record_event(event, stream);
    return Success;
  }
  if (!stream->capture->valid) return CaptureInvalidated;
  if (flags & EXTERNAL) {
    Work work;
    work.event = event;
    return enqueue(stream, std::move(work), held);
  }
  event->captured = stream->capture->id;
  event->capture_at_ns = stream->capture_tail_ns;
  event->source = stream;
  event->source_work = stream->captured_work;
  event->recorded = true;
  return Success;
}
API int cudaEventRecord(void *event, void *stream) {
  CALLED(cudaEventRecord);
  return fail(record(event, stream, 0, held));
}
API int cudaEventRecordWithFlags(void *event, void *stream, unsigned flags) {
  CALLED(cudaEventRecord);
  return fail(record(event, stream, flags, held));
}
API int cudaEventQuery(void *handle) {
  CALLED(cudaEventQuery);
  auto event = event_of(handle);
  if (!event) return fail(InvalidResourceHandle);
  if (event->captured) return fail(CapturedEvent);
  if (int error = unsafe_call()) return fail(error);
  return fail(!event->recorded || now_ns() >= event->at_ns ? Success : NotReady);
}
API int cudaEventSynchronize(void *handle) {
  CALLED(cudaEventSynchronize);
  auto event = event_of(handle);
  if (!event) return fail(InvalidResourceHandle);
  if (event->captured) return fail(CapturedEvent);
  if (int error = unsafe_call()) return fail(error);
  wait_until(event->recorded ? event->at_ns : 0, "cudaEventSynchronize", event->device, nullptr,
             held);
  return fail(s.sticky);
}
API int cudaEventElapsedTime(float *ms, void *from_handle, void *to_handle) {
  CALLED(cudaEventElapsedTime);
  constexpr unsigned NO_TIMING = 2;
  auto from = event_of(from_handle), to = event_of(to_handle);
  if (!from || !to || (from->flags | to->flags) & NO_TIMING || !from->recorded || !to->recorded)
    return fail(InvalidResourceHandle);
  if (from->captured || to->captured) return fail(CapturedEvent);
  if (from->device != to->device) return fail(InvalidResourceHandle);
  if (now_ns() < from->at_ns || now_ns() < to->at_ns) return fail(NotReady);
  *ms = float(double(to->at_ns - from->at_ns) * 1e-6);
  return Success;
}
API int cudaEventElapsedTime_v2(float *ms, void *from, void *to) {
  return cudaEventElapsedTime(ms, from, to);
}
