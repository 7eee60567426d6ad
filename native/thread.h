#pragma once
#include <napi.h>

/** Adds what is said to the kernel about this process and its threads to the exports, where the system knows it (Linux). */
void ExportThread(Napi::Env env, Napi::Object exports);
