#pragma once
#include <napi.h>

/** Adds `peerState` to the exports, where the system knows it (Linux). */
void ExportSocket(Napi::Env env, Napi::Object exports);
