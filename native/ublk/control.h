#pragma once
#include <napi.h>

/** Adds `UblkControl` to the exports, where the system can have ublk (Linux). */
void ExportUblkControl(Napi::Env env, Napi::Object exports);
