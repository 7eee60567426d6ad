// A null ublk server: the least a ublk device can cost, to compare blkforge's with (npm run bench:ublk).
//
// It answers every request at once and touches no data: the kernel still copies 4 KiB per read between the request's pages and
// the buffer of its tag (the plain copy mode). One thread per hardware queue, pinned to its queue's CPUs; raw system calls, no
// library. Differs from a server one would use: no error is survived, and nothing is validated but what the kernel answers.
//
//   null-ublk-server QUEUES DEPTH SIZE_BYTES     prints the device's path when it is ready; SIGTERM removes it again
//
// Sources: include/uapi/linux/ublk_cmd.h (figures and structures), Documentation/block/ublk.rst.
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr uint32_t kGetQueueAffinity = 0x80207501, kAddDev = 0xc0207504, kDelDev = 0xc0207505;
constexpr uint32_t kStartDev = 0xc0207506, kStopDev = 0xc0207507, kSetParams = 0xc0207508;
constexpr uint32_t kFetch = 0xc0107520, kCommitAndFetch = 0xc0107521;
constexpr uint32_t kMaxIoBytes = 512 << 10, kPage = 4096, kDescriptorBytes = 24, kDescriptorStride = 4096 * kDescriptorBytes;

struct ControlCommand {
  uint32_t device;
  uint16_t queue, length;
  uint64_t address, data, unused;
};

struct DeviceInfo {
  uint16_t queues, depth, state, pad0;
  uint32_t maxIoBytes, device;
  int32_t pid;
  uint32_t pad1;
  uint64_t flags, serverFlags, owner, reserved[2];
};

struct Params {  // of the parts only `basic`
  uint32_t length = sizeof(Params), types = 1;
  uint32_t attributes = 0;
  uint8_t logicalShift = 9, physicalShift = 12, optimalShift = 12, minimumShift = 12;
  uint32_t maxSectors = kMaxIoBytes >> 9, chunkSectors = 0;
  uint64_t sectors = 0, virtualBoundary = 0;
};

struct IoDescriptor {
  uint32_t opAndFlags, sectors;
  uint64_t startSector, address;
};

struct IoCommand {
  uint16_t queue, tag;
  int32_t result;
  uint64_t address;
};

[[noreturn]] void fail(const char* what, int error) {
  std::fprintf(stderr, "null-ublk-server: %s: %s\n", what, std::strerror(error));
  std::exit(1);
}

class Ring {
 public:
  Ring(unsigned entries, unsigned flags) {
    io_uring_params params{};
    params.flags = flags;
    fd_ = static_cast<int>(syscall(__NR_io_uring_setup, entries, &params));
    if (fd_ < 0) fail("io_uring_setup", errno);
    entryBytes_ = (flags & IORING_SETUP_SQE128) != 0 ? 128 : 64;
    const size_t ringBytes = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
    char* ring = map(ringBytes, IORING_OFF_SQ_RING);
    entries_ = map(params.sq_entries * entryBytes_, IORING_OFF_SQES);
    sqTail_ = reinterpret_cast<std::atomic<uint32_t>*>(ring + params.sq_off.tail);
    sqMask_ = params.sq_entries - 1;
    auto* indexes = reinterpret_cast<uint32_t*>(ring + params.sq_off.array);
    for (uint32_t i = 0; i <= sqMask_; i++) indexes[i] = i;
    cqHead_ = reinterpret_cast<std::atomic<uint32_t>*>(ring + params.cq_off.head);
    cqTail_ = reinterpret_cast<std::atomic<uint32_t>*>(ring + params.cq_off.tail);
    cqMask_ = params.cq_entries - 1;
    completions_ = reinterpret_cast<io_uring_cqe*>(ring + params.cq_off.cqes);
  }
  ~Ring() { close(fd_); }

  io_uring_sqe* push() {
    auto* entry = reinterpret_cast<io_uring_sqe*>(entries_ + (tail_ & sqMask_) * entryBytes_);
    std::memset(entry, 0, entryBytes_);
    entry->opcode = IORING_OP_URING_CMD;
    tail_++;
    pending_++;
    return entry;
  }

  void enter(unsigned wanted) {
    sqTail_->store(tail_, std::memory_order_release);
    while (syscall(__NR_io_uring_enter, fd_, pending_, wanted, IORING_ENTER_GETEVENTS, nullptr, 0) < 0) {
      if (errno != EINTR) fail("io_uring_enter", errno);
    }
    pending_ = 0;
  }

  template <class Handler>
  void drain(Handler handle) {
    uint32_t head = cqHead_->load(std::memory_order_relaxed);
    const uint32_t tail = cqTail_->load(std::memory_order_acquire);
    for (; head != tail; head++) {
      const io_uring_cqe& done = completions_[head & cqMask_];
      handle(static_cast<uint16_t>(done.user_data), done.res);
    }
    cqHead_->store(head, std::memory_order_release);
  }

 private:
  char* map(size_t bytes, off_t offset) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, offset);
    if (at == MAP_FAILED) fail("mmap of a ring", errno);
    return static_cast<char*>(at);
  }

  int fd_;
  size_t entryBytes_;
  char* entries_;
  std::atomic<uint32_t>*sqTail_, *cqHead_, *cqTail_;
  io_uring_cqe* completions_;
  uint32_t sqMask_, cqMask_, tail_ = 0, pending_ = 0;
};

class Control {
 public:
  Control() : ring_(4, IORING_SETUP_SQE128), fd_(open("/dev/ublk-control", O_RDWR)) {
    if (fd_ < 0) fail("/dev/ublk-control", errno);
  }

  void run(const char* what, uint32_t code, ControlCommand command) {
    io_uring_sqe* entry = ring_.push();
    entry->fd = fd_;
    entry->cmd_op = code;
    std::memcpy(reinterpret_cast<char*>(entry) + 48, &command, sizeof command);
    ring_.enter(1);
    ring_.drain([&](uint16_t, int result) {
      if (result < 0) fail(what, -result);
    });
  }

 private:
  Ring ring_;
  int fd_;
};

struct Queue {
  uint16_t id, depth;
  int device;
  cpu_set_t cpus;

  void serve() const {
    sched_setaffinity(0, sizeof cpus, &cpus);
    const size_t bytes = (depth * kDescriptorBytes + kPage - 1) / kPage * kPage;
    void* at = mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, device, id * kDescriptorStride);
    if (at == MAP_FAILED) fail("mmap of descriptors", errno);
    const auto* descriptors = static_cast<const IoDescriptor*>(at);
    char* buffers = static_cast<char*>(mmap(nullptr, size_t{depth} * kMaxIoBytes, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    if (buffers == MAP_FAILED) fail("buffers", errno);
    Ring ring(depth, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    auto send = [&](uint32_t code, uint16_t tag, int32_t result) {
      io_uring_sqe* entry = ring.push();
      entry->fd = device;
      entry->cmd_op = code;
      entry->user_data = tag;
      const IoCommand command{id, tag, result, reinterpret_cast<uint64_t>(buffers) + uint64_t{tag} * kMaxIoBytes};
      std::memcpy(reinterpret_cast<char*>(entry) + 48, &command, sizeof command);
    };
    for (uint16_t tag = 0; tag < depth; tag++) send(kFetch, tag, 0);
    for (unsigned ended = 0; ended < depth;) {
      ring.enter(1);
      ring.drain([&](uint16_t tag, int result) {
        // Every fetch ends so when the device is stopped.
        if (result != 0) ended++;
        else send(kCommitAndFetch, tag, static_cast<int32_t>(descriptors[tag].sectors << 9));
      });
    }
    munmap(at, bytes);
    munmap(buffers, size_t{depth} * kMaxIoBytes);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: null-ublk-server QUEUES DEPTH SIZE_BYTES\n");
    return 2;
  }
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigprocmask(SIG_BLOCK, &stop, nullptr);

  Control control;
  DeviceInfo info{};
  info.queues = static_cast<uint16_t>(std::atoi(argv[1]));
  info.depth = static_cast<uint16_t>(std::atoi(argv[2]));
  info.maxIoBytes = kMaxIoBytes;
  info.device = ~0u;
  info.pid = getpid();
  auto at = [](auto* object) { return reinterpret_cast<uint64_t>(object); };
  control.run("ADD_DEV", kAddDev, {~0u, 0xffff, sizeof info, at(&info), 0, 0});
  Params params;
  params.sectors = std::strtoull(argv[3], nullptr, 10) >> 9;
  control.run("SET_PARAMS", kSetParams, {info.device, 0xffff, sizeof params, at(&params), 0, 0});

  const std::string name = "/dev/ublkc" + std::to_string(info.device);
  const int device = open(name.c_str(), O_RDWR);
  if (device < 0) fail(name.c_str(), errno);
  std::vector<std::thread> threads;
  for (uint16_t id = 0; id < info.queues; id++) {
    Queue queue{id, info.depth, device, {}};
    control.run("GET_QUEUE_AFFINITY", kGetQueueAffinity, {info.device, 0xffff, sizeof queue.cpus, at(&queue.cpus), id, 0});
    threads.emplace_back([queue] { queue.serve(); });
  }
  control.run("START_DEV", kStartDev, {info.device, 0xffff, 0, 0, static_cast<uint64_t>(getpid()), 0});
  std::printf("/dev/ublkb%u\n", info.device);
  std::fflush(stdout);

  int signal;
  sigwait(&stop, &signal);
  control.run("STOP_DEV", kStopDev, {info.device, 0xffff, 0, 0, 0, 0});
  for (std::thread& thread : threads) thread.join();
  close(device);
  control.run("DEL_DEV", kDelDev, {info.device, 0xffff, 0, 0, 0, 0});
}
