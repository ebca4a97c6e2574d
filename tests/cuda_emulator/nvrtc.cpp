// The stand-in for libnvrtc: compiles CUDA C++ with the host's compiler into a shared object. What it calls PTX says where
// that object is. EMULATOR_SOURCE and EMULATOR_CACHE are folders, EMULATOR_LIBRARY is the stand-in for libcuda; all are
// set when this file is compiled.
#include <atomic>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace {
enum Result { Success = 0, InvalidInput = 3, Compilation = 6 };

struct Program {
  std::string source, name, log, ptx;
};

std::string read(const std::string &path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The names of the kernels: what stands before the first bracket behind __global__ that is not a launch bound.
std::set<std::string> kernels(const std::string &source) {
  std::set<std::string> names;
  const std::string word = "__global__";
  for (size_t at = source.find(word); at != std::string::npos; at = source.find(word, at + 1)) {
    size_t open = source.find('(', at), bounds = source.find("__launch_bounds__", at);
    if (bounds < open) open = source.find('(', source.find(')', bounds));
    if (open == std::string::npos) break;
    size_t end = open;
    while (end > at && isspace(source[end - 1])) --end;
    size_t begin = end;
    while (begin > at && (isalnum(source[begin - 1]) || source[begin - 1] == '_')) --begin;
    names.insert(source.substr(begin, end - begin));
  }
  return names;
}

const char *compiler() {
  const char *given = getenv("CXX");
  return given ? given : "c++";
}
} // namespace

extern "C" {

int nvrtcVersion(int *major, int *minor) {
  *major = 13;
  *minor = 0;
  return Success;
}
static const int ARCHS[] = {75, 80, 90, 100, 120};
int nvrtcGetNumSupportedArchs(int *count) {
  *count = sizeof ARCHS / sizeof *ARCHS;
  return Success;
}
int nvrtcGetSupportedArchs(int *archs) {
  memcpy(archs, ARCHS, sizeof ARCHS);
  return Success;
}
const char *nvrtcGetErrorString(int result) {
  return result == Success ? "NVRTC_SUCCESS" : result == Compilation ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_INVALID_INPUT";
}
int nvrtcCreateProgram(void **out, const char *source, const char *name, int headers, const char *const *, const char *const *) {
  if (headers) return InvalidInput;
  *out = new Program{source, name ? name : "kernel.cu", "", ""};
  return Success;
}
int nvrtcDestroyProgram(void **program) {
  delete static_cast<Program *>(*program);
  *program = nullptr;
  return Success;
}
// For tests: how many programs the calling thread has had compiled.
static thread_local unsigned compiled = 0;
unsigned emulator_compiled() { return compiled; }
int nvrtcCompileProgram(void *handle, int count, const char *const *options) {
  auto program = static_cast<Program *>(handle);
  ++compiled;
  std::string defines;
  for (int i = 0; i < count; ++i) {
    if (!strncmp(options[i], "-D", 2)) defines += std::string(" '") + options[i] + "'";
  }
  std::string text = "#include \"device.h\"\n#line 1 \"" + program->name + "\"\n" + program->source + "\n";
  for (auto &k : kernels(program->source)) {
    text += "extern \"C\" void emulator_run_" + k + "(void **params) { emulator_call(" + k + ", params); }\n";
    text += "extern \"C\" EMULATOR_PLAIN unsigned emulator_size_" + k + "(unsigned i) { return emulator_size(" + k + ", i); }\n";
  }
  const std::string flags = " -std=c++17 -O1 -g0 -fPIC -fno-tree-loop-distribute-patterns -fno-strict-aliasing -fno-gnu-unique -ffp-contract=off"
                            " -fsanitize=thread -Wall -Werror -Wno-unknown-pragmas -Wno-unused-function -Wno-tsan -I" EMULATOR_SOURCE;
  size_t hash = std::hash<std::string>()(text + defines + flags + compiler() + read(EMULATOR_SOURCE "/device.h"));
  char stem[64];
  snprintf(stem, sizeof stem, "/%016zx", hash);
  std::string path = std::string(EMULATOR_CACHE) + stem, object = path + ".so";
  struct stat there;
  if (stat(object.c_str(), &there) != 0) {
    // Several processes and threads may compile the same source: each under a name of its own, renamed at the end.
    static std::atomic<unsigned> nth{0};
    std::string mine = path + "." + std::to_string(getpid()) + "." + std::to_string(nth++);
    std::ofstream(mine + ".cpp") << text;
    std::string command = std::string(compiler()) + flags + defines + " -c '" + mine + ".cpp' -o '" + mine + ".o' > '" + mine +
                          ".log' 2>&1 && " + compiler() + " -shared -o '" + mine + ".so' '" + mine +
                          ".o' -Wl,-Bsymbolic -Wl,--no-as-needed '" EMULATOR_LIBRARY "' >> '" + mine + ".log' 2>&1";
    int failed = system(command.c_str());
    program->log = read(mine + ".log");
    for (const char *end : {".cpp", ".o", ".log"}) unlink((mine + end).c_str());
    if (failed) return Compilation;
    rename((mine + ".so").c_str(), object.c_str());
  }
  program->ptx = "// emulated PTX: " + object + "\n" + program->name + "\n";
  return Success;
}
int nvrtcGetPTXSize(void *handle, size_t *size) {
  *size = static_cast<Program *>(handle)->ptx.size() + 1;
  return Success;
}
int nvrtcGetPTX(void *handle, char *out) {
  strcpy(out, static_cast<Program *>(handle)->ptx.c_str());
  return Success;
}
int nvrtcGetProgramLogSize(void *handle, size_t *size) {
  *size = static_cast<Program *>(handle)->log.size() + 1;
  return Success;
}
int nvrtcGetProgramLog(void *handle, char *out) {
  strcpy(out, static_cast<Program *>(handle)->log.c_str());
  return Success;
}
}
