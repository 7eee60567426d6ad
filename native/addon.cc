/**
 * The addon's table of exports; `src/base/native.ts` has the other half, typed.
 *
 * Native code moves bytes and keeps time; TypeScript decides and checks arguments. Nothing is global: each
 * JavaScript environment (the main thread, every worker) has classes of its own, and its end releases what they hold.
 */
#include <napi.h>

#include "acceptor.h"
#include "clock.h"
#include "file.h"
#include "nbd/socket-mover.h"
#include "netlink.h"
#include "pages.h"
#include "socket.h"
#include "sparse-memory.h"
#include "thread.h"
#include "ublk/control.h"
#include "ublk/server.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  ExportAcceptor(env, exports);
  ExportClock(env, exports);
  ExportSparseMemory(env, exports);
  ExportFile(env, exports);
  ExportNetlink(env, exports);
  ExportPages(env, exports);
  ExportSocket(env, exports);
  ExportSocketMover(env, exports);
  ExportThread(env, exports);
  ExportUblkControl(env, exports);
  ExportUblkServer(env, exports);
  return exports;
}

NODE_API_MODULE(blkforge, Init)
