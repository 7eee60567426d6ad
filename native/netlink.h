#pragma once
#include <napi.h>

/** Adds `NetlinkSocket` and `socketPair` to the exports, where the system has netlink (Linux). */
void ExportNetlink(Napi::Env env, Napi::Object exports);
