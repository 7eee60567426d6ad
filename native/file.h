#pragma once
#include <napi.h>

/** Adds the file calls that node:fs lacks to the exports. */
void ExportFile(Napi::Env env, Napi::Object exports);
