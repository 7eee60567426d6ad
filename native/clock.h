#pragma once
#include <napi.h>

/** Adds `Clock` to the exports, where the system has a precise timer (Linux). */
void ExportClock(Napi::Env env, Napi::Object exports);
