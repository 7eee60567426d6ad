#pragma once
#include <napi.h>

/** Adds `giveBackPages` to the exports, where the system can do it (Linux). */
void ExportPages(Napi::Env env, Napi::Object exports);
