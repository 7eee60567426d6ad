#pragma once
#include <napi.h>

/** Adds `SocketMover` to the exports, where there is one. */
void ExportSocketMover(Napi::Env env, Napi::Object exports);
