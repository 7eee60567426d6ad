#pragma once
#include <cstdint>

/**
 * What the kernel and a ublk server say to each other: the numbers and layouts of io_uring and ublk this addon uses.
 *
 * Written down here, since the headers of the machine that compiles may be older than the kernel that runs. Fields have
 * the kernel's meaning; the names are ours.
 *
 * Source: Linux, include/uapi/linux/io_uring.h and include/uapi/linux/ublk_cmd.h, as of 6.12 and 7.3; for the meaning of batches drivers/block/ublk_drv.c of 7.2.
 */
namespace ublk {

// io_uring ------------------------------------------------------------------------------------------------------------

struct Sqe {
  uint8_t opcode;
  uint8_t flags;
  uint16_t ioprio;
  int32_t fd;
  /** The offset; for a command its opcode, in the lower half. */
  uint64_t offset;
  uint64_t address;
  uint32_t length;
  uint32_t op_flags;
  uint64_t user_data;
  uint16_t buffer_index;
  uint16_t personality;
  int32_t file_index;
  /** Where a command's own bytes begin: 16 of them, or 80 in entries of 128 bytes. */
  uint8_t command[16];
};
static_assert(sizeof(Sqe) == 64);

struct Cqe {
  uint64_t user_data;
  int32_t result;
  uint32_t flags;
};

struct SubmissionOffsets {
  uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
  uint64_t user_address;
};

struct CompletionOffsets {
  uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved;
  uint64_t user_address;
};

struct RingParameters {
  uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
  SubmissionOffsets sq;
  CompletionOffsets cq;
};
static_assert(sizeof(RingParameters) == 120);

/** `io_uring_getevents_arg`: what the wait of an enter carries besides a number. */
struct WaitArgument {
  uint64_t signal_mask;
  uint32_t signal_mask_bytes;
  uint32_t minimum_wait_us;
  /** Address of a `KernelTimespec`. */
  uint64_t timespec;
};

struct KernelTimespec {
  int64_t seconds;
  int64_t nanoseconds;
};

constexpr uint32_t kSetupCqSize = 1u << 3;
constexpr uint32_t kSetupCoopTaskrun = 1u << 8;
constexpr uint32_t kSetupSqe128 = 1u << 10;
constexpr uint32_t kSetupSingleIssuer = 1u << 12;
constexpr uint32_t kSetupDeferTaskrun = 1u << 13;

constexpr uint32_t kEnterGetEvents = 1u << 0;
constexpr uint32_t kEnterExtendedArgument = 1u << 3;
constexpr uint32_t kEnterRegisteredRing = 1u << 4;
/** The wait's time is a point in time, not a duration. Since 6.12; older kernels refuse it. */
constexpr uint32_t kEnterAbsoluteTimer = 1u << 5;

constexpr uint32_t kRegisterFiles = 2;
constexpr uint32_t kRegisterEventfd = 4;
constexpr uint32_t kRegisterRingFds = 20;
constexpr uint32_t kRegisterBufferRing = 22;

constexpr uint8_t kOpRead = 22;
constexpr uint8_t kOpCommand = 46;

constexpr uint8_t kSqeFixedFile = 1u << 0;
/** The kernel takes a buffer of a group, `Sqe::buffer_index`. */
constexpr uint8_t kSqeBufferSelect = 1u << 5;
/** There is a completion only when it fails. */
constexpr uint8_t kSqeSkipSuccess = 1u << 6;

/** In `Sqe::op_flags`: a command that is answered many times. */
constexpr uint32_t kCommandMultishot = 1u << 1;

/** In `Cqe::flags`: a buffer was taken, whose number is in the upper half. */
constexpr uint32_t kCqeBuffer = 1u << 0;
/** In `Cqe::flags`: the command goes on. */
constexpr uint32_t kCqeMore = 1u << 1;
constexpr unsigned kCqeBufferShift = 16;

/** `io_uring_buf`: a buffer provided for commands that take one. */
struct ProvidedBuffer {
  uint64_t address;
  uint32_t length;
  uint16_t number;
  /** In the first one of a ring: how many have been provided, running freely. */
  uint16_t tail;
};
static_assert(sizeof(ProvidedBuffer) == 16);

/** `io_uring_buf_reg`: makes memory of `entries` provided buffers, a power of two, the ring of a group. */
struct BufferRingRegistration {
  uint64_t address;
  uint32_t entries;
  uint16_t group;
  uint16_t flags;
  uint64_t reserved[3];
};
static_assert(sizeof(BufferRingRegistration) == 40);

constexpr uint64_t kMapSubmission = 0;
constexpr uint64_t kMapEntries = 0x10000000;
/** Submission and completion ring lie in one mapping: every kernel with ublk has it. */
constexpr uint32_t kFeatureSingleMap = 1u << 0;

// ublk ----------------------------------------------------------------------------------------------------------------

/** A control command; lies at `Sqe::command` of an entry of 128 bytes. */
struct ControlCommand {
  uint32_t device_id;
  uint16_t queue_id;
  /** Of what `address` points to. */
  uint16_t length;
  uint64_t address;
  uint64_t data;
  uint16_t path_length;
  uint16_t pad;
  uint32_t reserved;
};
static_assert(sizeof(ControlCommand) == 32);

/** A request, in memory that the kernel shares read-only: one per tag. */
struct IoDescriptor {
  /** Operation in bits 0 to 7. */
  uint32_t op_flags;
  /** Zones, for a report of zones. */
  uint32_t sectors;
  uint64_t start_sector;
  uint64_t address;
};
static_assert(sizeof(IoDescriptor) == 24);

/** A command of a queue; lies at `Sqe::command`. */
struct IoCommand {
  uint16_t queue_id;
  uint16_t tag;
  int32_t result;
  /** Of the tag's buffer; with user copy 0, or of an append the sector it was written to. */
  uint64_t address;
};
static_assert(sizeof(IoCommand) == 16);

constexpr uint32_t kFetch = 0xc0107520;
constexpr uint32_t kCommitAndFetch = 0xc0107521;

/** Result of a fetch when a request is there. */
constexpr int32_t kResultRequest = 0;

/** A command about many tags of a queue (UBLK_F_BATCH_IO, since 7.0); lies at `Sqe::command`. */
struct BatchCommand {
  uint16_t queue_id;
  uint16_t flags;
  uint16_t elements;
  uint8_t element_bytes;
  uint8_t reserved;
  uint64_t reserved2;
};
static_assert(sizeof(BatchCommand) == 16);

/** What a batch says of one tag; a word for each of the command's flags follows. */
struct BatchElement {
  uint16_t tag;
  uint16_t buffer_index;
  int32_t result;
};
static_assert(sizeof(BatchElement) == 8);

constexpr uint32_t kPrepareBatch = 0xc0107525;
constexpr uint32_t kCommitBatch = 0xc0107526;
constexpr uint32_t kFetchBatch = 0xc0107527;

constexpr uint16_t kBatchHasZoneSector = 1u << 0;
constexpr uint16_t kBatchHasBufferAddress = 1u << 1;

/** The driver hands over no more tags than this at a time, `MAX_NR_TAG`. */
constexpr uint32_t kTagsAtOnce = 128;

constexpr uint8_t kReadRequest = 0;
constexpr uint8_t kWriteRequest = 1;
constexpr uint8_t kFlushRequest = 2;
constexpr uint8_t kDiscardRequest = 3;
constexpr uint8_t kWriteZeroesRequest = 5;
constexpr uint8_t kZoneOpenRequest = 10;
constexpr uint8_t kZoneCloseRequest = 11;
constexpr uint8_t kZoneFinishRequest = 12;
constexpr uint8_t kZoneAppendRequest = 13;
constexpr uint8_t kZoneResetAllRequest = 14;
constexpr uint8_t kZoneResetRequest = 15;
constexpr uint8_t kReportZonesRequest = 18;

/** `sizeof(struct blk_zone)`. */
constexpr uint32_t kZoneBytes = 64;

constexpr uint32_t kRequestFua = 1u << 13;
constexpr uint32_t kRequestNoUnmap = 1u << 15;

constexpr uint32_t kSectorShift = 9;

/** Descriptors of queue n begin n times this far into the mapping: room for the deepest queue, 4096, in whole pages. */
constexpr uint64_t kDescriptorStride = 4096 * sizeof(IoDescriptor);
static_assert(kDescriptorStride == 98304);

/** Where the bytes of a request lie for pread and pwrite on the device's character node, with user copy. */
constexpr uint64_t kBytesOrigin = 0x80000000;
constexpr unsigned kTagShift = 25;
constexpr unsigned kQueueShift = 41;

inline uint64_t BytesOffset(uint16_t queue, uint16_t tag) {
  return kBytesOrigin + (static_cast<uint64_t>(queue) << kQueueShift | static_cast<uint64_t>(tag) << kTagShift);
}

}  // namespace ublk
