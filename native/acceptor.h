#pragma once
#include <napi.h>

/** Adds `bindAbstract`, `bindVsock` and `Acceptor` to the exports, where the system has them (Linux). */
void ExportAcceptor(Napi::Env env, Napi::Object exports);
