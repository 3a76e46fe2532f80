// When work of the device begins and ends, and how long the host waits for it.
#include "device.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <queue>
#include <thread>
#include <tuple>

namespace vgpu {

// Functions of the host that a stream runs: on a thread of the device, at their time.
namespace {
struct Task {
  int64_t at_ns;
  uint64_t order;
  std::function<void()> run;
  bool operator<(const Task &other) const {
    return std::tie(at_ns, order) > std::tie(other.at_ns, other.order);
  }
};

struct Executor {
  std::mutex lock;
  std::condition_variable more;
  std::priority_queue<Task> tasks;
  uint64_t order = 0;
  bool started = false;

  void add(int64_t at_ns, std::function<void()> run) {
    std::lock_guard<std::mutex> held(lock);
    tasks.push({at_ns, ++order, std::move(run)});
    if (!started) {
      started = true;
      std::thread([this] { loop(); }).detach();
    }
    more.notify_one();
  }

  void loop() {
    std::unique_lock<std::mutex> held(lock);
    for (;;) {
      more.wait(held, [this] { return !tasks.empty(); });
      int64_t at_ns = tasks.top().at_ns;
      if (now_ns() < at_ns) {
        more.wait_for(held, std::chrono::nanoseconds(at_ns - now_ns()));
        continue;
      }
      auto run = tasks.top().run;
      tasks.pop();
      held.unlock();
      run();
      held.lock();
    }
  }
};

Executor &executor() {
  static Executor *made = new Executor;  // outlives the program's own exit handlers
  return *made;
}

Record record_of(const Work &work, Stream *stream, int64_t begin_ns, int64_t end_ns) {
  Record record{};
  record.kind = work.kind;
  record.device = stream->device;
  record.stream = stream->legacy ? 0 : uint64_t(uintptr_t(stream));
  record.begin_ns = begin_ns;
  record.end_ns = end_ns;
  record.bytes = work.bytes;
  record.pageable = work.pageable;
  record.thread = thread_id();
  snprintf(record.name, sizeof record.name, "%s", work.name.c_str());
  return record;
}

void note(const Record &record) {
  State &s = state();
  if (s.timeline.size() < MAX_RECORDS) s.timeline.push_back(record);
}

void add_busy(Card &c, int64_t begin_ns, int64_t end_ns) {
  if (end_ns <= begin_ns) return;
  // Keep the union of intervals in order; what has ended is only a sum.
  auto at = std::lower_bound(c.busy.begin(), c.busy.end(), std::make_pair(begin_ns, end_ns));
  if (at != c.busy.begin() && std::prev(at)->second >= begin_ns) --at;
  auto last = at;
  while (last != c.busy.end() && last->first <= end_ns) {
    begin_ns = std::min(begin_ns, last->first);
    end_ns = std::max(end_ns, last->second);
    ++last;
  }
  at = c.busy.erase(at, last);
  c.busy.insert(at, {begin_ns, end_ns});
}

// The first time from `start_ns` on at which nothing else is on the device for so long.
int64_t free_from(const Card &c, int64_t start_ns, int64_t took_ns) {
  for (auto &[begin_ns, end_ns] : c.busy) {
    if (begin_ns >= start_ns + took_ns) break;
    start_ns = std::max(start_ns, end_ns);
  }
  return start_ns;
}

// A stream's launch queue is full: the host waits until its oldest launch has ended.
void make_room(Stream *stream, Lock &held) {
  auto &pending = stream->pending_ns;
  for (;;) {
    while (!pending.empty() && pending.front() <= now_ns()) pending.pop_front();
    if (pending.size() < state().queue_depth) return;
    wait_until(pending.front(), "launch queue", stream->device, stream, held);
  }
}

// A legacy stream would wait for a blocking stream that is being captured.
int legacy_conflict(Stream *stream) {
  if (!stream->legacy) return Success;
  for (Stream *other : state().cards[stream->device].streams)
    if (other->blocking && other->capture) {
      invalidate(other->capture);
      return CaptureImplicit;
    }
  return Success;
}

void take_effect(const Work &work, int64_t end_ns) {
  if (!work.effect) return;
  if (work.kind == HostFunction)
    executor().add(end_ns, work.effect);
  else
    work.effect();
}
}  // namespace

int64_t start_of(Stream *stream) {
  Card &c = state().cards[stream->device];
  int64_t start_ns = std::max(now_ns(), stream->tail_ns);
  if (stream->legacy) {
    for (Stream *other : c.streams)
      if (other->blocking) start_ns = std::max(start_ns, other->tail_ns);
  } else if (stream->blocking) {
    start_ns = std::max(start_ns, c.legacy.tail_ns);
  }
  return start_ns;
}

int64_t device_tail(int device) {
  Card &c = state().cards[device];
  int64_t tail_ns = c.legacy.tail_ns;
  for (Stream *stream : c.streams) tail_ns = std::max(tail_ns, stream->tail_ns);
  return tail_ns;
}

int64_t kernel_ns(const char *name, double work_s) {
  State &s = state();
  for (auto it = s.kernel_times_s.rbegin(); it != s.kernel_times_s.rend(); ++it)
    if (strstr(name, it->first.c_str())) return int64_t(it->second * 1e9);
  return int64_t(std::max(s.kernel_s, work_s) * 1e9);
}

int enqueue(Stream *stream, Work work, Lock &held) {
  State &s = state();
  if (int error = legacy_conflict(stream)) return error;
  if (Capture *capture = stream->capture) {
    if (!capture->valid) return CaptureInvalidated;
    int64_t at_ns = stream->capture_tail_ns;
    stream->capture_tail_ns += work.took_ns;
    ++stream->captured_work;
    stream->unjoined = stream != capture->origin;
    capture->graph->length_ns = std::max(capture->graph->length_ns, stream->capture_tail_ns);
    capture->graph->nodes.push_back(std::make_shared<Node>(Node{std::move(work), at_ns}));
    return Success;
  }
  make_room(stream, held);
  int64_t begin_ns = start_of(stream);
  Card &c = s.cards[stream->device];
  if (s.exclusive && work.kind == Kernel) begin_ns = free_from(c, begin_ns, work.took_ns);
  stream->tail_ns = begin_ns + work.took_ns;
  stream->pending_ns.push_back(stream->tail_ns);
  note(record_of(work, stream, begin_ns, stream->tail_ns));
  add_busy(c, begin_ns, stream->tail_ns);
  take_effect(work, stream->tail_ns);
  return Success;
}

void record_event(const std::shared_ptr<Event> &event, Stream *stream) {
  event->at_ns = start_of(stream);
  event->recorded = true;
  event->captured = 0;
  stream->tail_ns = event->at_ns;
}

int replay(const Graph &graph, Stream *stream, Lock &held) {
  if (int error = legacy_conflict(stream)) return error;
  make_room(stream, held);
  int64_t begin_ns = start_of(stream);
  Card &c = state().cards[stream->device];
  if (state().exclusive) begin_ns = free_from(c, begin_ns, graph.length_ns);
  for (auto &node : graph.nodes) {
    const Work &work = node->work;
    int64_t at_ns = begin_ns + node->at_ns, end_ns = at_ns + work.took_ns;
    if (work.event) {
      work.event->at_ns = at_ns;
      work.event->recorded = true;
      work.event->captured = 0;
      continue;
    }
    if (work.kind == Effect) {
      work.effect();
      continue;
    }
    Record record = record_of(work, stream, at_ns, end_ns);
    record.replayed = 1;
    note(record);
    add_busy(c, at_ns, end_ns);
    take_effect(work, end_ns);
  }
  stream->tail_ns = begin_ns + graph.length_ns;
  stream->pending_ns.push_back(stream->tail_ns);
  return Success;
}

void wait_until(int64_t at_ns, const char *api, int device, Stream *stream, Lock &held) {
  constexpr int64_t SPIN_NS = 50000;  // what a sleep may oversleep
  int64_t began_ns = now_ns();
  held.unlock();
  for (int64_t now = began_ns; now < at_ns; now = now_ns())
    if (at_ns - now > SPIN_NS) {
      timespec early{time_t((at_ns - SPIN_NS) / 1000000000),
                     long((at_ns - SPIN_NS) % 1000000000)};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &early, nullptr);
    }
  held.lock();
  Work work;
  work.kind = Wait;
  work.name = api;
  Record record = record_of(work, stream ? stream : &state().cards[device].legacy, began_ns,
                            now_ns());
  note(record);
}

}  // namespace vgpu
