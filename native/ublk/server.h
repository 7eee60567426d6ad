#pragma once
#include <napi.h>

/** Adds `UblkServer` and `UblkPort` to the exports, where the system can have ublk (Linux). */
void ExportUblkServer(Napi::Env env, Napi::Object exports);
