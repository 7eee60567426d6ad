/**
 * What the other end of a stream socket is up to, without reading from it: Node and libuv learn that a peer has gone by
 * reading, and a socket under backpressure is not read.
 */
#include "socket.h"

#ifdef __linux__

#include <poll.h>

/**
 * peerState(fd): 0 open, 1 it has closed its side of the stream, 2 gone.
 *
 * POLLHUP comes when both directions are shut, which for a Unix socket means that its peer is closed, and for TCP that
 * the peer has reset the connection or does not answer any more (POLLERR beside it). A TCP peer that has closed its
 * socket looks like one that has closed its sending side only, until it is sent something.
 */
static Napi::Value PeerState(const Napi::CallbackInfo& info) {
  pollfd polled{};
  polled.fd = info[0].ToNumber().Int32Value();
  polled.events = POLLRDHUP;
  int state = 0;
  if (poll(&polled, 1, 0) > 0) {
    if (polled.revents & (POLLHUP | POLLERR)) {
      state = 2;
    } else if (polled.revents & POLLRDHUP) {
      state = 1;
    }
  }
  return Napi::Number::New(info.Env(), state);
}

void ExportSocket(Napi::Env env, Napi::Object exports) {
  exports.Set("peerState", Napi::Function::New<PeerState>(env, "peerState"));
}

#else

void ExportSocket(Napi::Env, Napi::Object) {}

#endif
