// Streams, events and graphs. Work waits in its stream until somebody waits for it, as on a device that is slow: who forgets to wait finds
// old values. While a stream captures, its work becomes nodes of a graph instead.
#include "stream.h"
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <set>

namespace emulator {

namespace {
Stream legacy[DEVICES];
std::set<Stream *> streams;
std::condition_variable_any changed;
thread_local std::vector<Stream *> captures;  // that this thread has begun
thread_local unsigned eager = 0;              // which of the streams that this thread makes next are: bit by bit
std::set<std::pair<const char *, const char *>> pinned;
Stream *running = nullptr;             // whose work is being done
constexpr double PIECE = 0.001;        // milliseconds of a piece of work that says nothing else

bool is_legacy(const Stream *stream) { return stream >= legacy && stream < legacy + DEVICES; }
} // namespace

Stream *stream_of(void *handle) {
  if (handle) return static_cast<Stream *>(handle);
  int device = std::max(current_device(), 0);
  legacy[device].device = device;
  return &legacy[device];
}

Stream *create_stream() {
  auto stream = new Stream;
  stream->device = current_device();
  stream->eager = eager & 1;
  eager >>= 1;
  streams.insert(stream);
  return stream;
}

void destroy_stream(void *handle) {
  Stream *stream = stream_of(handle);
  finish(stream, stream->asked);
  streams.erase(stream);
  captures.erase(std::remove(captures.begin(), captures.end(), stream), captures.end());
  // It is not deleted: an event of it may still be waited for.
}

bool advance(Stream *stream, uint64_t until) {
  if (stream->running) return stream->done >= until;
  stream->running = true;
  while (stream->done < until && !stream->queue.empty()) {
    auto &front = stream->queue.front();
    if (front.ready && !front.ready()) break;
    Work work = std::move(front.run);
    stream->queue.pop_front();
    ++stream->done;
    int before = running_device;
    Stream *other = running;
    running_device = stream->device;
    running = stream;
    stream->time += PIECE;
    work();
    running_device = before;
    running = other;
  }
  stream->running = false;
  return stream->done >= until;
}

void await_others() {
  // Nobody here computes for so long: what is waited for never comes.
  if (changed.wait_for(lock, std::chrono::seconds(300)) == std::cv_status::timeout) {
    fail("a stream waits for work with other devices, which these are never asked for");
  }
}

void tell_others() { changed.notify_all(); }

void finish(Stream *stream, uint64_t until) {
  while (!advance(stream, until)) await_others();
}

void finish(void *handle) {
  Stream *stream = stream_of(handle);
  finish(stream, stream->asked);
}

void finish_all(int device) {
  for (Stream *stream : std::set<Stream *>(streams)) {
    if (stream->device == device) finish(stream, stream->asked);
  }
}

int enqueue(void *handle, Piece piece) {
  Stream *stream = stream_of(handle);
  if (stream->capture) {
    (stream->joined ? stream->beside : stream->capture->nodes).push_back(std::move(piece));
    return Success;
  }
  // The legacy stream waits for all others that do not say otherwise; nobody here asks it for work of its own while they have some.
  if (is_legacy(stream)) {
    if (int r = unsafe_in_capture(CaptureImplicit)) return r;
    finish_all(stream->device);
  }
  auto asked = piece.asked;
  stream->queue.push_back(std::move(piece));
  ++stream->asked;
  if (asked) asked(stream, stream->asked);
  if (is_legacy(stream)) finish(stream, stream->asked);
  if (stream->eager) advance(stream, stream->asked);
  tell_others();
  return Success;
}

bool capturing(void *handle) { return stream_of(handle)->capture != nullptr; }

int unsafe_in_capture(int error) {
  if (captures.empty()) return Success;
  for (Stream *stream : captures) stream->capture->broken = true;
  return error;
}

void pin(const void *at, size_t bytes) {
  auto first = static_cast<const char *>(at);
  pinned.insert({first, first + bytes});
}
void unpin(const void *at) {
  auto first = static_cast<const char *>(at);
  auto found = pinned.lower_bound({first, nullptr});
  if (found != pinned.end() && found->first == first) pinned.erase(found);
}
bool is_pinned(const void *at, size_t bytes) {
  auto first = static_cast<const char *>(at);
  for (auto &range : pinned) {
    if (first >= range.first && first + bytes <= range.second) return true;
  }
  return false;
}

int begin_capture(void *handle, int mode) {
  if (!handle) return CaptureUnsupported;
  if (mode != 1) fail("only captures of one thread are there: CU_STREAM_CAPTURE_MODE_THREAD_LOCAL");
  Stream *stream = stream_of(handle);
  if (stream->capture) return IllegalState;
  stream->capture = std::make_shared<Graph>();
  stream->joined = false;
  captures.push_back(stream);
  return Success;
}

int end_capture(void *handle, Graph **out) {
  *out = nullptr;
  Stream *stream = stream_of(handle);
  if (!stream->capture || stream->joined) return IllegalState;
  auto mine = std::find(captures.begin(), captures.end(), stream);
  if (mine == captures.end()) return CaptureWrongThread;
  captures.erase(mine);
  std::shared_ptr<Graph> graph = std::move(stream->capture);
  stream->capture = nullptr;
  bool unjoined = false;
  for (Stream *other : graph->joined) {
    unjoined |= !other->beside.empty();
    other->beside.clear();
    other->capture = nullptr;
    other->joined = false;
  }
  if (graph->broken) return CaptureInvalidated;
  if (unjoined) return CaptureUnjoined;
  graph->joined.clear();
  *out = new Graph(*graph);
  return Success;
}

bool note_node(void *handle, const std::string &kernel) {
  Stream *stream = stream_of(handle);
  if (stream->capture) stream->capture->kernels.push_back(kernel);
  return stream->capture != nullptr;
}

int launch_graph(const Graph *graph, void *handle) {
  if (capturing(handle)) return CaptureUnsupported;
  for (auto &name : graph->kernels) count_run(name);
  for (auto &node : graph->nodes) enqueue(handle, node);
  return Success;
}

int record(Event *event, void *handle) {
  Stream *stream = stream_of(handle);
  event->captured = stream->capture.get();
  event->recorded = true;
  event->stream = stream;
  if (event->captured) {
    event->ticket = stream->taken + stream->beside.size();
    return Success;
  }
  event->ticket = stream->asked + 1;
  return enqueue(handle, {[event] {
    event->at = running->time;
    event->happened = true;
  }, nullptr, nullptr});
}

// In a capture: the work of a stream that joined is done as late as it may be, when it is waited for.
static int wait_in_capture(Stream *stream, Event *event) {
  Stream *other = event->stream;
  bool open = event->captured && other->capture.get() == event->captured;
  if (open && !stream->capture && !is_legacy(stream)) {
    stream->capture = other->capture;
    stream->joined = true;
    stream->taken = 0;
    stream->beside.clear();
    stream->capture->joined.push_back(stream);
  }
  if (!open || stream->capture.get() != event->captured) {
    if (stream->capture) stream->capture->broken = true;
    return CaptureIsolation;
  }
  for (; other->joined && other != stream && other->taken < event->ticket && !other->beside.empty(); ++other->taken) {
    stream->capture->nodes.push_back(std::move(other->beside.front()));
    other->beside.erase(other->beside.begin());
  }
  return Success;
}

int wait(void *handle, Event *event) {
  Stream *stream = stream_of(handle);
  if (event->captured || stream->capture) return wait_in_capture(stream, event);
  if (!event->recorded || event->stream == stream) return Success;
  Stream *other = event->stream;
  uint64_t ticket = event->ticket;
  return enqueue(handle, {[stream, other] { stream->time = std::max(stream->time, other->time); }, [other, ticket] { return advance(other, ticket); }, nullptr});
}

int wait(Event *event) {
  if (event->captured) return unsafe_in_capture(CapturedEvent), CapturedEvent;
  if (event->recorded) finish(event->stream, event->ticket);
  return Success;
}

int query(Event *event) {
  if (event->captured) return unsafe_in_capture(CapturedEvent), CapturedEvent;
  return !event->recorded || advance(event->stream, event->ticket) ? Success : NotReady;
}

} // namespace emulator

// For tests: which of the streams that the calling thread makes next do their work at once, bit by bit.
extern "C" void emulator_eager(unsigned which) { emulator::eager = which; }

// What is being done takes so many milliseconds.
extern "C" void emulator_takes(double ms) { emulator::running->time += ms; }
