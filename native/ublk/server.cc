/**
 * The JavaScript faces of a device's queues, one per side.
 *
 * UblkServer belongs to the main thread: it makes the queues, starts and ends their threads, and hears when they end.
 * UblkPort belongs to the device thread: it brings the store, is woken by arrivals, and wakes queues for its verdicts.
 * The port's end, for whatever reason, makes the queues answer every request with EIO; the server's end stops them. So a
 * device never waits for JavaScript that is no more.
 */
#include "server.h"

#ifdef __linux__

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "../counters.h"
#include "event-watch.h"
#include "queue.h"

namespace ublk {

namespace {

/** What both sides share, kept by whichever is left. */
struct Device {
  DeviceContext context;
  std::vector<std::unique_ptr<Queue>> queues;

  void Fail() {
    context.is_dead.store(true);
    for (auto& queue : queues) queue->Rouse();
  }

  ~Device() {
    if (context.char_fd >= 0) close(context.char_fd);
    if (context.listener_fd >= 0) close(context.listener_fd);
  }
};

/** Devices by the number the two sides know them by. Of the whole process, as descriptors are. */
class Registry {
 public:
  int Add(std::shared_ptr<Device> device) {
    std::lock_guard<std::mutex> guard(mutex_);
    devices_[++last_] = std::move(device);
    return last_;
  }

  std::shared_ptr<Device> Find(int id) {
    std::lock_guard<std::mutex> guard(mutex_);
    auto found = devices_.find(id);
    return found == devices_.end() ? nullptr : found->second;
  }

  void Remove(int id) {
    std::lock_guard<std::mutex> guard(mutex_);
    devices_.erase(id);
  }

 private:
  std::mutex mutex_;
  std::map<int, std::shared_ptr<Device>> devices_;
  int last_ = 0;
};

/** Never destroyed: threads may outlive static destructors. */
Registry& AllDevices() {
  static auto* registry = new Registry();
  return *registry;
}

/** The memory behind a typed array; its view keeps it in place. */
void* Memory(const Napi::Value& view) {
  napi_typedarray_type type;
  void* data = nullptr;
  napi_get_typedarray_info(view.Env(), view, &type, nullptr, &data, nullptr, nullptr);
  return data;
}

class Server : public Napi::ObjectWrap<Server> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "UblkServer",
                       {
                           InstanceMethod<&Server::Start>("start"),
                           InstanceMethod<&Server::Fail>("fail"),
                           InstanceMethod<&Server::Leave>("leave"),
                           InstanceMethod<&Server::Failure>("failure"),
                           InstanceMethod<&Server::HasEnded>("hasEnded"),
                           InstanceMethod<&Server::Close>("close"),
                           InstanceAccessor<&Server::Id>("id"),
                       });
  }

  /**
   * new UblkServer(settings, shared, counters, onEnded)
   *
   * settings  [charFd, queues, depth, largestBytes, hasUserCopy, queueOffsetBytes, queueStrideBytes,
   *            countersOffsetBytes, countersStrideBytes, isBatched, isZoned]; the descriptor becomes this object's
   * shared    Uint8Array on shared memory, laid out as queue.h has it
   * counters  Uint8Array on shared memory
   * onEnded   called when threads have ended
   */
  explicit Server(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Server>(info), context_(info.Env(), "blkforge:UblkServer"), device_(std::make_shared<Device>()) {
    auto settings = info[0].As<Napi::Float64Array>();
    auto setting = [&settings](size_t index) { return static_cast<size_t>(settings[index]); };
    auto* shared = static_cast<uint8_t*>(Memory(info[1]));
    auto* counters = static_cast<uint8_t*>(Memory(info[2]));
    shared_view_ = Napi::Persistent(info[1].As<Napi::Object>());
    counters_view_ = Napi::Persistent(info[2].As<Napi::Object>());
    on_ended_ = Napi::Persistent(info[3].As<Napi::Function>());
    DeviceContext& context = device_->context;
    context.char_fd = static_cast<int>(setting(0));
    context.depth = static_cast<uint32_t>(setting(2));
    context.largest_bytes = static_cast<uint32_t>(setting(3));
    context.has_user_copy = setting(4) != 0;
    context.is_batched = setting(9) != 0;
    context.is_zoned = setting(10) != 0;
    context.shared = reinterpret_cast<SharedDevice*>(shared);
    watch_ = EventWatch::Start(
        info.Env(), true, [this] { OnEnded(); }, [this] { Shut(); });
    if (watch_ == nullptr) {
      Napi::Error::New(info.Env(), "no event descriptor could be had").ThrowAsJavaScriptException();
      return;
    }
    context.ended_fd = watch_->fd();
    for (size_t i = 0; i < setting(1); i++) {
      device_->queues.push_back(std::make_unique<Queue>(
          context, static_cast<uint16_t>(i), reinterpret_cast<SharedQueue*>(shared + setting(5) + i * setting(6)),
          reinterpret_cast<double*>(counters + setting(7) + i * setting(8))));
    }
    id_ = AllDevices().Add(device_);
    // Alive until closed, whoever holds it: threads work on the memory it keeps.
    Ref();
  }

 private:
  Napi::Value Id(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), id_); }

  /** start(queue, cpus): starts one queue's thread on these processors (a Uint8Array of bits, or empty); 0 or an errno. */
  Napi::Value Start(const Napi::CallbackInfo& info) {
    auto cpus = info[1].As<Napi::Uint8Array>();
    auto& queue = device_->queues[info[0].ToNumber().Uint32Value()];
    int error = queue->Start(std::vector<uint8_t>(cpus.Data(), cpus.Data() + cpus.ByteLength()));
    return Napi::Number::New(info.Env(), error);
  }

  /** fail(): what is undecided, and every request to come, ends in EIO. */
  void Fail(const Napi::CallbackInfo&) {
    if (device_ != nullptr) device_->Fail();
  }

  /** leave(): the threads end, and the kernel makes of the device what it does of one whose server has died. */
  void Leave(const Napi::CallbackInfo&) {
    if (device_ == nullptr) return;
    device_->context.must_leave.store(true);
    for (auto& queue : device_->queues) queue->Rouse();
  }

  /** failure(): the first errno that ended a thread against everybody's will; 0 when there is none. */
  Napi::Value Failure(const Napi::CallbackInfo& info) {
    int failure = 0;
    if (device_ != nullptr) {
      for (auto& queue : device_->queues) failure = failure != 0 ? failure : queue->failure();
    }
    return Napi::Number::New(info.Env(), failure);
  }

  /** hasEnded(): whether no thread is left that was started. */
  Napi::Value HasEnded(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), AllHaveEnded()); }

  /** close(): closes the character device; all threads must have ended. */
  void Close(const Napi::CallbackInfo&) { Shut(); }

  bool AllHaveEnded() const {
    if (device_ == nullptr) return true;
    for (auto& queue : device_->queues) {
      if (!queue->has_ended()) return false;
    }
    return true;
  }

  void OnEnded() {
    Napi::HandleScope scope(Env());
    CallFromLoop(Env(), context_, on_ended_, 0, nullptr);
  }

  /** Threads that still run are told to leave, and waited for: the memory they work on is about to go. */
  void Shut() {
    if (device_ == nullptr) return;
    device_->context.must_leave.store(true);
    for (auto& queue : device_->queues) queue->Rouse();
    for (auto& queue : device_->queues) queue->Join();
    close(device_->context.char_fd);
    device_->context.char_fd = -1;
    AllDevices().Remove(id_);
    device_.reset();
    watch_->Close();
    on_ended_.Reset();
    shared_view_.Reset();
    counters_view_.Reset();
    Unref();
  }

  Napi::AsyncContext context_;
  std::shared_ptr<Device> device_;
  int id_ = 0;
  EventWatch* watch_ = nullptr;
  Napi::FunctionReference on_ended_;
  Napi::ObjectReference shared_view_;
  Napi::ObjectReference counters_view_;
};

class Port : public Napi::ObjectWrap<Port> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "UblkPort",
                       {
                           InstanceMethod<&Port::UseMemory>("useMemory"),
                           InstanceMethod<&Port::UseFile>("useFile"),
                           InstanceMethod<&Port::WakeQueue>("wakeQueue"),
                           InstanceMethod<&Port::ReadPayload>("readPayload"),
                           InstanceMethod<&Port::WriteAnswer>("writeAnswer"),
                           InstanceMethod<&Port::Close>("close"),
                       });
  }

  /** new UblkPort(serverId, originNs, spinNs, onArrivals): to be made before the queues are started. */
  explicit Port(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Port>(info), context_(info.Env(), "blkforge:UblkPort") {
    device_ = AllDevices().Find(info[0].ToNumber().Int32Value());
    if (device_ == nullptr) {
      Napi::Error::New(info.Env(), "there is no such server").ThrowAsJavaScriptException();
      return;
    }
    bool is_lossless;
    device_->context.origin_ns = info[1].As<Napi::BigInt>().Int64Value(&is_lossless);
    device_->context.spin_ns = static_cast<int64_t>(std::min(info[2].ToNumber().DoubleValue(), 1e15));
    device_->context.store = std::make_shared<Store>();
    on_arrivals_ = Napi::Persistent(info[3].As<Napi::Function>());
    watch_ = EventWatch::Start(
        info.Env(), true, [this] { OnArrivals(); }, [this] { Shut(); });
    if (watch_ == nullptr) {
      Napi::Error::New(info.Env(), "no event descriptor could be had").ThrowAsJavaScriptException();
      return;
    }
    // A copy, since the watch's own is closed while queues may still write to it.
    device_->context.listener_fd = fcntl(watch_->fd(), F_DUPFD_CLOEXEC, 0);
    Ref();
  }

 private:
  /** useMemory(sparseMemory, limitBytes): 0 or an errno. */
  Napi::Value UseMemory(const Napi::CallbackInfo& info) {
    Store& store = *device_->context.store;
    store.memory = SparseMemoryOf(info[0]);
    double limit = info[1].ToNumber().DoubleValue();
    store.limit_bytes = limit < 1e18 ? static_cast<uint64_t>(limit) : UINT64_MAX;
    return Napi::Number::New(info.Env(), store.memory != nullptr ? 0 : EINVAL);
  }

  /** useFile(fd): 0 or an errno. The queues have a descriptor of their own: Node closes a worker's with the worker. */
  Napi::Value UseFile(const Napi::CallbackInfo& info) {
    Store& store = *device_->context.store;
    store.file_fd = fcntl(info[0].ToNumber().Int32Value(), F_DUPFD_CLOEXEC, 0);
    return Napi::Number::New(info.Env(), store.file_fd >= 0 ? 0 : errno);
  }

  /** wakeQueue(queue): there are verdicts for it. */
  void WakeQueue(const Napi::CallbackInfo& info) {
    uint32_t queue = 0;
    napi_get_value_uint32(info.Env(), info[0], &queue);
    if (device_ != nullptr) device_->queues[queue]->Wake();
  }

  /** readPayload(queue, tag, target): fills the target with a write's payload, in flight and not moved yet; 0 or an errno. */
  Napi::Value ReadPayload(const Napi::CallbackInfo& info) {
    if (device_ == nullptr) return Napi::Number::New(info.Env(), ENODEV);
    auto target = info[2].As<Napi::Uint8Array>();
    auto tag = static_cast<uint16_t>(info[1].ToNumber().Uint32Value());
    RequestBytes bytes = device_->queues[info[0].ToNumber().Uint32Value()]->BytesOf(tag);
    return Napi::Number::New(info.Env(), CopyPayload(bytes, target.Data(), target.ByteLength()));
  }

  /** writeAnswer(queue, tag, source): the beginning of what a request in flight asks for; 0 or an errno. */
  Napi::Value WriteAnswer(const Napi::CallbackInfo& info) {
    if (device_ == nullptr) return Napi::Number::New(info.Env(), ENODEV);
    auto source = info[2].As<Napi::Uint8Array>();
    auto tag = static_cast<uint16_t>(info[1].ToNumber().Uint32Value());
    RequestBytes bytes = device_->queues[info[0].ToNumber().Uint32Value()]->BytesOf(tag);
    return Napi::Number::New(info.Env(), CopyAnswer(bytes, source.Data(), source.ByteLength()));
  }

  /** close(): nobody decides any more. */
  void Close(const Napi::CallbackInfo&) { Shut(); }

  void OnArrivals() {
    Napi::HandleScope scope(Env());
    CallFromLoop(Env(), context_, on_arrivals_, 0, nullptr);
  }

  void Shut() {
    if (device_ == nullptr) return;
    device_->Fail();
    device_.reset();
    watch_->Close();
    on_arrivals_.Reset();
    Unref();
  }

  Napi::AsyncContext context_;
  std::shared_ptr<Device> device_;
  EventWatch* watch_ = nullptr;
  Napi::FunctionReference on_arrivals_;
};

/** recordLatency(cells, valueNs): the histogram of the queues, for a test to compare with that of TypeScript. */
void RecordLatency(const Napi::CallbackInfo& info) {
  Counters::RecordValue(info[0].As<Napi::Float64Array>().Data(), info[1].ToNumber().DoubleValue());
}

}  // namespace

}  // namespace ublk

void ExportUblkServer(Napi::Env env, Napi::Object exports) {
  exports.Set("UblkServer", ublk::Server::Define(env));
  exports.Set("UblkPort", ublk::Port::Define(env));
  exports.Set("recordLatency", Napi::Function::New<ublk::RecordLatency>(env, "recordLatency"));
}

#else

void ExportUblkServer(Napi::Env, Napi::Object) {}

#endif
