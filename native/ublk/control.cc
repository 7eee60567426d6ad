/**
 * UblkControl: commands to /dev/ublk-control, each carried out by a worker thread of the kernel and answered on the event
 * loop. What a command means, and how long it may take, is TypeScript's affair (src/ublk/control.ts).
 *
 * A command the kernel never finishes keeps its buffer for ever, since the kernel may still write to it.
 */
#include "control.h"

#ifdef __linux__

#include <errno.h>

#include <cstring>
#include <memory>
#include <vector>

#include "event-watch.h"
#include "ring.h"

namespace ublk {

namespace {

/** Commands in flight at once: one per device being started or stopped. */
constexpr uint32_t kEntries = 32;

class Control : public Napi::ObjectWrap<Control> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "UblkControl",
                       {
                           InstanceMethod<&Control::Open>("open"),
                           InstanceMethod<&Control::Submit>("submit"),
                           InstanceMethod<&Control::Close>("close"),
                       });
  }

  /** new UblkControl(onDone): onDone(id, result, buffer) for each command. */
  explicit Control(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<Control>(info), context_(info.Env(), "blkforge:UblkControl") {
    on_done_ = Napi::Persistent(info[0].As<Napi::Function>());
  }

 private:
  struct Command {
    uint32_t id;
    std::vector<uint8_t> buffer;
  };

  /** open(controlFd): 0 or an errno. The descriptor stays the caller's. */
  Napi::Value Open(const Napi::CallbackInfo& info) {
    control_fd_ = info[0].ToNumber().Int32Value();
    int error = ring_.Open(kEntries, 0, kSetupSqe128);
    if (error == 0) {
      watch_ = EventWatch::Start(
          info.Env(), true, [this] { Reap(); }, [this] { Shut(); });
      if (watch_ == nullptr) error = EMFILE;
    }
    if (error == 0) {
      // Alive until closed, whoever holds it: the event loop calls into it.
      Ref();
      int fd = watch_->fd();
      error = ring_.Register(kRegisterEventfd, &fd, 1);
    }
    return Napi::Number::New(info.Env(), error);
  }

  /** submit(id, opcode, deviceId, queueId, data, buffer, pathLength): 0 or an errno. The buffer is copied in, and out. */
  Napi::Value Submit(const Napi::CallbackInfo& info) {
    auto number = [&info](size_t index) { return info[index].ToNumber().Int64Value(); };
    Sqe* sqe = watch_ == nullptr ? nullptr : ring_.Prepare();
    if (sqe == nullptr) return Napi::Number::New(info.Env(), watch_ == nullptr ? EBADF : EBUSY);
    auto* command = new Command{static_cast<uint32_t>(number(0)), {}};
    auto bytes = info[5].As<Napi::Uint8Array>();
    command->buffer.assign(bytes.Data(), bytes.Data() + bytes.ByteLength());
    ControlCommand control{};
    control.device_id = static_cast<uint32_t>(number(2));
    control.queue_id = static_cast<uint16_t>(number(3));
    control.data = static_cast<uint64_t>(number(4));
    control.length = static_cast<uint16_t>(command->buffer.size());
    control.address = command->buffer.empty() ? 0 : reinterpret_cast<uint64_t>(command->buffer.data());
    control.path_length = static_cast<uint16_t>(number(6));
    sqe->opcode = kOpCommand;
    sqe->fd = control_fd_;
    sqe->offset = static_cast<uint32_t>(number(1));
    sqe->user_data = reinterpret_cast<uint64_t>(command);
    memcpy(sqe->command, &control, sizeof control);
    return Napi::Number::New(info.Env(), ring_.Enter(0));
  }

  void Close(const Napi::CallbackInfo&) { Shut(); }

  void Reap() {
    Napi::Env env = Env();
    Napi::HandleScope scope(env);
    std::vector<std::pair<std::unique_ptr<Command>, int32_t>> done;
    ring_.ForEachCompletion([&done](const Cqe& cqe) {
      done.emplace_back(reinterpret_cast<Command*>(cqe.user_data), cqe.result);
    });
    for (auto& [command, result] : done) {
      // The callback before may have closed this.
      if (watch_ == nullptr) return;
      napi_value arguments[3] = {
          Napi::Number::New(env, command->id), Napi::Number::New(env, result),
          Napi::Buffer<uint8_t>::Copy(env, command->buffer.data(), command->buffer.size())};
      CallFromLoop(env, context_, on_done_, 3, arguments);
    }
  }

  void Shut() {
    if (watch_ == nullptr) return;
    watch_->Close();
    watch_ = nullptr;
    ring_.Close();
    on_done_.Reset();
    Unref();
  }

  Napi::AsyncContext context_;
  Napi::FunctionReference on_done_;
  EventWatch* watch_ = nullptr;
  Ring ring_;
  int control_fd_ = -1;
};

}  // namespace

}  // namespace ublk

void ExportUblkControl(Napi::Env env, Napi::Object exports) { exports.Set("UblkControl", ublk::Control::Define(env)); }

#else

void ExportUblkControl(Napi::Env, Napi::Object) {}

#endif
