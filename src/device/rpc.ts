/**
 * Questions and answers between the main thread and a device thread, over a message port.
 *
 * One object of methods on the device's side, a promise per call on the main side. Errors people meet cross as
 * themselves (`BlkError`); calls that are open when the thread ends are rejected, so nobody waits for ever.
 */
import type { MessagePort } from "node:worker_threads";
import { BlkError, type ErrorCode } from "../base/errors.js";

interface Call {
  id: number;
  method: string;
  argument: unknown;
}

interface Answer {
  id: number;
  result?: unknown;
  error?: { code: ErrorCode; message: string; hint: string };
}

/** Methods a device thread answers: one argument, one result, both structured-clonable. */
// biome-ignore lint/suspicious/noExplicitAny: each method has an argument of its own type; callers are typed by RpcClient.
export type RpcMethods = Record<string, (argument: any) => unknown>;

export type RpcClient<Methods extends RpcMethods> = <Name extends keyof Methods & string>(
  method: Name,
  ...argument: Parameters<Methods[Name]>
) => Promise<Awaited<ReturnType<Methods[Name]>>>;

/** Answers calls that arrive on `port` with `methods`. */
export function answerCalls(port: MessagePort, methods: RpcMethods): void {
  port.on("message", async ({ id, method, argument }: Call) => {
    let answer: Answer;
    try {
      answer = { id, result: await methods[method](argument) };
    } catch (error) {
      const known =
        error instanceof BlkError
          ? error
          : new BlkError("BLK_E_INTERNAL", `the device thread failed at "${method}": ${String(error)}`);
      answer = { id, error: known.toJSON() };
    }
    port.postMessage(answer);
  });
}

/** Makes calls over `port`. `fail` rejects all that are open, and every later one, with `reason`. */
export function makeCalls<Methods extends RpcMethods>(
  port: MessagePort,
): { call: RpcClient<Methods>; fail: (reason: BlkError) => void } {
  const open = new Map<number, { resolve: (result: never) => void; reject: (error: BlkError) => void }>();
  let nextId = 0;
  let failure: BlkError | null = null;
  port.on("message", ({ id, result, error }: Answer) => {
    const waiting = open.get(id);
    open.delete(id);
    if (error === undefined) waiting?.resolve(result as never);
    else waiting?.reject(BlkError.fromJSON(error));
  });
  return {
    call: (method, ...[argument]) =>
      new Promise((resolve, reject) => {
        if (failure !== null) {
          reject(failure);
          return;
        }
        const id = nextId++;
        open.set(id, { resolve, reject });
        port.postMessage({ id, method, argument } satisfies Call);
      }),
    fail: (reason) => {
      failure = reason;
      for (const { reject } of open.values()) reject(reason);
      open.clear();
    },
  };
}
