// Streams, events and graphs. Work waits in its stream until somebody waits for it, as on a device that is slow: who forgets to wait finds
// old values. While a stream captures, its work becomes nodes of a graph instead.
#include "stream.h"
#include <algorithm>
#include <set>

namespace emulator {

namespace {
Stream legacy;
std::set<Stream *> streams{&legacy};
thread_local std::vector<Stream *> captures;  // that this thread has begun
thread_local unsigned eager = 0;              // which of the streams that this thread makes next are: bit by bit
std::set<std::pair<const char *, const char *>> pinned;

Stream *stream_of(void *handle) { return handle ? static_cast<Stream *>(handle) : &legacy; }
} // namespace

Stream *create_stream() {
  auto stream = new Stream;
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

void finish(Stream *stream, uint64_t until) {
  while (stream->done < until && !stream->queue.empty()) {
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    ++stream->done;
    work();
  }
}

void finish(void *handle) {
  Stream *stream = stream_of(handle);
  finish(stream, stream->asked);
}

void finish_all() {
  for (Stream *stream : std::set<Stream *>(streams)) finish(stream, stream->asked);
}

int enqueue(void *handle, Work work) {
  Stream *stream = stream_of(handle);
  if (stream->capture) {
    stream->capture->nodes.push_back(std::move(work));
    return Success;
  }
  // The legacy stream waits for all others that do not say otherwise; nobody here asks it for work of its own while they have some.
  if (stream == &legacy) {
    if (int r = unsafe_in_capture(CaptureImplicit)) return r;
    finish_all();
  }
  stream->queue.push_back(std::move(work));
  ++stream->asked;
  if (stream == &legacy || stream->eager) finish(stream, stream->asked);
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
  captures.push_back(stream);
  return Success;
}

int end_capture(void *handle, Graph **out) {
  *out = nullptr;
  Stream *stream = stream_of(handle);
  if (!stream->capture) return IllegalState;
  auto mine = std::find(captures.begin(), captures.end(), stream);
  if (mine == captures.end()) return CaptureWrongThread;
  captures.erase(mine);
  std::shared_ptr<Graph> graph = std::move(stream->capture);
  stream->capture = nullptr;
  if (graph->broken) return CaptureInvalidated;
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
  if (event->captured) return Success;
  event->stream = stream;
  event->ticket = stream->asked + 1;
  return enqueue(handle, [event] {
    event->at = std::chrono::steady_clock::now();
    event->happened = true;
  });
}

int wait(void *handle, Event *event) {
  Stream *stream = stream_of(handle);
  if (event->captured || stream->capture) {
    if (event->captured == stream->capture.get()) return Success;
    if (stream->capture) stream->capture->broken = true;
    return CaptureIsolation;
  }
  if (!event->recorded || event->stream == stream) return Success;
  Stream *other = event->stream;
  uint64_t ticket = event->ticket;
  return enqueue(handle, [other, ticket] { finish(other, ticket); });
}

int wait(Event *event) {
  if (event->captured) return unsafe_in_capture(CapturedEvent), CapturedEvent;
  if (event->recorded) finish(event->stream, event->ticket);
  return Success;
}

} // namespace emulator

// For tests: which of the streams that the calling thread makes next do their work at once, bit by bit.
extern "C" void emulator_eager(unsigned which) { emulator::eager = which; }
