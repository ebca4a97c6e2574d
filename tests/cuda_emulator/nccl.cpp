// The stand-in for libnccl: what Cortado calls of it. The ranks meet in their streams: a piece of work there waits until the other ranks'
// streams have come to theirs, then it is done for all of them at once.
#include "stream.h"
#include <cstring>
#include <map>
#include <string>

using namespace emulator;

namespace {
enum NcclResult { Ok = 0, UnhandledCudaError = 1, SystemError = 2, InternalError = 3, InvalidArgument = 4, InvalidUsage = 5 };
enum { Float32 = 7, Float64 = 8 };
enum { Sum = 0, Avg = 4 };
using Guard = std::lock_guard<std::recursive_mutex>;

// What a rank asks for. All ranks must ask for the same, but for the places.
struct Call {
  bool broadcast;
  size_t count;
  int type, op, root;
  size_t group;                        // how many calls it was asked for with
  bool captured;                       // in a graph
  const char *send;
  char *recv;
  Stream *stream = nullptr;            // where it stands
  uint64_t ticket = 0;
};

struct Clique {
  int count;
  std::vector<int> devices;
  std::vector<std::vector<Call>> calls;  // by rank, in the order in which their streams have got them
  std::vector<size_t> next;              // by rank, the first that its stream has not done
  std::vector<char> aborted, there;
  size_t done = 0;                       // calls that were done for all
  explicit Clique(int n) : count(n), devices(n), calls(n), next(n), aborted(n), there(n) {}
};

struct Comm {
  std::shared_ptr<Clique> clique;
  int rank;
};

size_t size_of(int type) { return type == Float32 ? 4 : 8; }

template <class T> void reduce(const std::vector<const char *> &in, const std::vector<char *> &out, size_t count, bool average) {
  T factor = average ? T(1) / T(in.size()) : T(1);
  for (size_t i = 0; i < count; ++i) {
    T sum = 0;
    for (auto from : in) sum += reinterpret_cast<const T *>(from)[i] * factor;
    for (auto to : out) reinterpret_cast<T *>(to)[i] = sum;
  }
}

std::string describe(const Call &call) {
  return std::string(call.broadcast ? "ncclBroadcast" : "ncclAllReduce") + " of " + std::to_string(call.count) + " values of type " +
         std::to_string(call.type) + ", op " + std::to_string(call.op) + ", root " + std::to_string(call.root) + ", in a group of " +
         std::to_string(call.group) + (call.captured ? ", captured" : "");
}

void perform(Clique &clique, size_t k) {
  std::vector<const char *> in;
  std::vector<char *> out;
  const Call &first = clique.calls[0][k];
  int before = running_device;
  for (int r = 0; r < clique.count; ++r) {
    Call &call = clique.calls[r][k];
    if (describe(call) != describe(first)) {
      fail("NCCL: rank 0 asks for " + describe(first) + " where rank " + std::to_string(r) + " asks for " + describe(call));
    }
    running_device = clique.devices[r];
    size_t bytes = call.count * size_of(call.type);
    if (bytes && (!call.broadcast || r == call.root)) check_device(call.send, bytes, Access::Read, false, "NCCL");
    if (bytes) check_device(call.recv, bytes, Access::Write, false, "NCCL");
    in.push_back(call.send);
    out.push_back(call.recv);
  }
  running_device = before;
  if (first.broadcast) {
    for (auto to : out) memmove(to, in[first.root], first.count * size_of(first.type));
  } else if (first.type == Float32) {
    reduce<float>(in, out, first.count, first.op == Avg);
  } else {
    reduce<double>(in, out, first.count, first.op == Avg);
  }
}

bool ready(Clique &clique, int rank) {
  size_t k = clique.next[rank];
  if (clique.aborted[rank] || k < clique.done) return true;
  for (int r = 0; r < clique.count; ++r) {
    if (clique.calls[r].size() <= k) return false;
    Call &call = clique.calls[r][k];
    if (r != rank && clique.next[r] <= k && !advance(call.stream, call.ticket - 1)) return false;
    if (clique.aborted[r]) return false;  // it never comes
  }
  return true;
}

void run(Clique &clique, int rank) {
  size_t k = clique.next[rank]++;
  if (clique.aborted[rank] || k < clique.done) return;
  perform(clique, k);
  clique.done = k + 1;
  tell_others();
}

// --- groups of calls
struct Asked {
  Comm *comm;
  Call call;
  void *stream;
};
thread_local int depth = 0;
thread_local std::vector<Asked> waiting;
// For tests: launches of kernels that the calling thread had asked for before each of its calls.
thread_local std::vector<unsigned> launches_before;

int give(const Asked &asked, size_t group) {
  auto clique = asked.comm->clique;
  int rank = asked.comm->rank;
  Call call = asked.call;
  call.group = group;
  call.captured = capturing(asked.stream);
  Piece piece;
  piece.ready = [=] { return ready(*clique, rank); };
  piece.run = [=] { run(*clique, rank); };
  piece.asked = [=](Stream *stream, uint64_t ticket) {
    Call standing = call;
    standing.stream = stream;
    standing.ticket = ticket;
    clique->calls[rank].push_back(standing);
  };
  return enqueue(asked.stream, piece) ? UnhandledCudaError : Ok;
}

int flush() {
  std::vector<Asked> all;
  all.swap(waiting);
  for (auto &one : all) {
    if (int r = give(one, all.size())) return r;
  }
  return Ok;
}
} // namespace

extern "C" unsigned emulator_launches();

namespace {
int ask(Comm *comm, Call call, void *stream) {
  Guard guard(lock);
  if (!comm || (call.type != Float32 && call.type != Float64) || (call.op != Sum && call.op != Avg)) return InvalidArgument;
  if (comm->clique->aborted[comm->rank] || call.root < 0 || call.root >= comm->clique->count) return InvalidArgument;
  int device = comm->clique->devices[comm->rank];
  if (call.count && (device_of(call.send) != device || device_of(call.recv) != device)) return InvalidArgument;
  if (current_device() != device || stream_of(stream)->device != device) return InvalidUsage;
  launches_before.push_back(emulator_launches());
  waiting.push_back({comm, call, stream});
  return depth ? Ok : flush();
}
std::map<std::string, std::weak_ptr<Clique>> cliques;  // by unique id
} // namespace

extern "C" {
struct ncclUniqueId {
  char internal[128];
};

// The last call's count of launches first; how many calls there were.
unsigned emulator_collectives(unsigned *before, unsigned room) {
  for (unsigned i = 0; i < room && i < launches_before.size(); ++i) before[i] = launches_before[i];
  return launches_before.size();
}

int ncclGetVersion(int *version) {
  const char *text = getenv("CUDA_EMULATOR_NCCL");
  *version = text ? atoi(text) : 22707;
  return Ok;
}
const char *ncclGetErrorString(int result) {
  switch (result) {
  case Ok: return "no error";
  case UnhandledCudaError: return "unhandled cuda error";
  case InvalidArgument: return "invalid argument";
  case InvalidUsage: return "invalid usage";
  default: return "internal error";
  }
}
const char *ncclGetLastError(void *) { return ""; }
int ncclGetUniqueId(ncclUniqueId *id) {
  Guard guard(lock);
  static unsigned nth = 0;
  memset(id, 0, sizeof *id);
  snprintf(id->internal, sizeof id->internal, "emulated clique %u", nth++);
  return Ok;
}
int ncclCommInitAll(void **out, int count, const int *devices) {
  Guard guard(lock);
  if (count < 1 || !out) return InvalidArgument;
  auto clique = std::make_shared<Clique>(count);
  for (int r = 0; r < count; ++r) {
    clique->devices[r] = devices ? devices[r] : r;
    if (clique->devices[r] < 0 || clique->devices[r] >= DEVICES) return InvalidArgument;
    for (int other = 0; other < r; ++other) {
      if (clique->devices[other] == clique->devices[r]) return InvalidUsage;
    }
  }
  for (int r = 0; r < count; ++r) out[r] = new Comm{clique, r};
  return Ok;
}
// Blocks until all ranks have come, unless a thread makes several in a group.
int ncclCommInitRank(void **out, int count, ncclUniqueId id, int rank) {
  Guard guard(lock);
  if (count < 1 || rank < 0 || rank >= count || current_device() < 0) return InvalidArgument;
  auto &slot = cliques[std::string(id.internal, strnlen(id.internal, sizeof id.internal))];
  auto clique = slot.lock();
  if (!clique) slot = clique = std::make_shared<Clique>(count);
  if (clique->count != count || clique->there[rank]) return InvalidUsage;
  clique->devices[rank] = current_device();
  clique->there[rank] = true;
  *out = new Comm{clique, rank};
  tell_others();
  auto all = [&] {
    for (char there : clique->there) {
      if (!there) return false;
    }
    return true;
  };
  while (!depth && !all()) await_others();
  return Ok;
}
int ncclCommDestroy(void *comm) {
  Guard guard(lock);
  delete static_cast<Comm *>(comm);
  return comm ? Ok : InvalidArgument;
}
// Its own work in the streams goes on without having been done. The others wait until they are aborted too.
int ncclCommAbort(void *comm) {
  Guard guard(lock);
  if (!comm) return InvalidArgument;
  auto c = static_cast<Comm *>(comm);
  c->clique->aborted[c->rank] = true;
  delete c;
  tell_others();
  return Ok;
}
int ncclCommGetAsyncError(void *, int *error) {
  *error = Ok;
  return Ok;
}
int ncclCommCount(void *comm, int *count) {
  *count = static_cast<Comm *>(comm)->clique->count;
  return Ok;
}
int ncclCommCuDevice(void *comm, int *device) {
  auto c = static_cast<Comm *>(comm);
  *device = c->clique->devices[c->rank];
  return Ok;
}
int ncclCommUserRank(void *comm, int *rank) {
  *rank = static_cast<Comm *>(comm)->rank;
  return Ok;
}
int ncclGroupStart() {
  ++depth;
  return Ok;
}
int ncclGroupEnd() {
  Guard guard(lock);
  if (!depth) return InvalidUsage;
  return --depth ? Ok : flush();
}
int ncclAllReduce(const void *send, void *recv, size_t count, int type, int op, void *comm, void *stream) {
  Call call{false, count, type, op, 0, 0, false, static_cast<const char *>(send), static_cast<char *>(recv)};
  return ask(static_cast<Comm *>(comm), call, stream);
}
int ncclBroadcast(const void *send, void *recv, size_t count, int type, int root, void *comm, void *stream) {
  Call call{true, count, type, Sum, root, 0, false, static_cast<const char *>(send), static_cast<char *>(recv)};
  return ask(static_cast<Comm *>(comm), call, stream);
}
}
