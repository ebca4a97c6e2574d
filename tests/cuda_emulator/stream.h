// Streams, events and graphs of the stand-in for CUDA.
#pragma once
#include "emulator.h"
#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace emulator {

enum Result { Success = 0, InvalidValue = 1, OutOfMemory = 2, NotInitialized = 3, NoDevice = 100, InvalidDevice = 101,
              InvalidImage = 200, InvalidContext = 201, InvalidHandle = 400, IllegalState = 401, NotFound = 500, NotReady = 600,
              CaptureUnsupported = 900, CaptureInvalidated = 901, CaptureUnjoined = 904, CaptureIsolation = 905, CaptureImplicit = 906,
              CapturedEvent = 907, CaptureWrongThread = 908 };

using Work = std::function<void()>;

struct Stream;

// A piece of work in a stream.
struct Piece {
  Work run;
  std::function<bool()> ready;                    // whether it can be done now; nothing: always
  std::function<void(Stream *, uint64_t)> asked;  // learns where it stands, each time it is put into a stream
};

struct Graph {
  std::vector<Piece> nodes;
  std::vector<std::string> kernels;    // by name, one for each launch
  std::vector<Stream *> joined;        // streams that wait for the one that captures
  bool broken = false;                 // something happened that a capture forbids
};

struct Stream {
  int device = 0;
  std::deque<Piece> queue;
  uint64_t asked = 0, done = 0;        // pieces of work
  double time = 0;                     // milliseconds that what is done would have taken
  bool eager = false;                  // does its work at once
  bool running = false;                // somebody goes through its work
  std::shared_ptr<Graph> capture;      // while it captures
  bool joined = false;                 // to the capture of another
  std::vector<Piece> beside;           // of one that joined: what that other has not waited for
  uint64_t taken = 0;                  // pieces that it has
};

struct Event {
  double at = 0;                       // the time of its stream
  bool recorded = false, happened = false;
  Stream *stream = nullptr;
  uint64_t ticket = 0;                 // its place among the work of the stream
  const Graph *captured = nullptr;     // recorded while this was captured
};

Stream *create_stream();
void destroy_stream(void *stream);
Stream *stream_of(void *handle);       // or the legacy one of the device
int enqueue(void *stream, Piece piece); // or makes it a node
bool capturing(void *stream);
bool advance(Stream *stream, uint64_t until);  // as far as it goes: whether that is far enough
void finish(Stream *stream, uint64_t until);   // waits for others where it must
void finish(void *stream);
void finish_all(int device);
void await_others();                   // gives the lock away until somebody has asked for something
void tell_others();

// The device whose context is current in the calling thread; -1 where none is.
int current_device();

// The error, where the calling thread captures: the capture is then broken.
int unsafe_in_capture(int error = CaptureUnsupported);

void pin(const void *at, size_t bytes);
void unpin(const void *at);
bool is_pinned(const void *at, size_t bytes);

int begin_capture(void *stream, int mode);
int end_capture(void *stream, Graph **graph);
int launch_graph(const Graph *graph, void *stream);
int record(Event *event, void *stream);
int wait(void *stream, Event *event);  // the stream waits
int wait(Event *event);                // the host waits
int query(Event *event);               // whether it has happened

// For tests: a launch of a kernel that the calling thread asks for.
void count_run(const std::string &kernel);
void note_launch(void *stream, const std::string &kernel);
bool note_node(void *stream, const std::string &kernel);  // whether the stream captures

} // namespace emulator
