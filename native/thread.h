#pragma once
#include <napi.h>

/** Adds `markIoFlusher` to the exports, where the system knows it (Linux). */
void ExportThread(Napi::Env env, Napi::Object exports);
