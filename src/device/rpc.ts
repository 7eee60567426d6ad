/**
 * Questions and answers between the main thread and a device thread, over a message port.
 *
 * One object of methods for the thread and one for each of its devices, a promise per call on the main side. Errors people meet
 * cross as themselves (`BlkError`); calls that are open when the thread ends are rejected, so nobody waits for ever.
 */
import type { MessagePort } from "node:worker_threads";
import { BlkError, type ErrorCode } from "../base/errors.js";

/** Whom a call is for: a device by its position on the thread, or the thread itself. */
export type CallTarget = number | "thread";

interface Call {
  id: number;
  target: CallTarget;
  method: string;
  argument: unknown;
}

interface Answer {
  id: number;
  result?: unknown;
  error?: { code: ErrorCode; message: string; hint: string };
}

/** Methods somebody answers: one argument, one result, both structured-clonable. */
// biome-ignore lint/suspicious/noExplicitAny: each method has an argument of its own type; callers are typed by RpcClient.
export type RpcMethods = Record<string, (argument: any) => unknown>;

export type RpcClient<Methods extends RpcMethods> = <Name extends keyof Methods & string>(
  method: Name,
  ...argument: Parameters<Methods[Name]>
) => Promise<Awaited<ReturnType<Methods[Name]>>>;

/** Answers calls that arrive on `port` with the methods of whom they are for. */
export function answerCalls(port: MessagePort, methodsOf: (target: CallTarget) => RpcMethods): void {
  port.on("message", async ({ id, target, method, argument }: Call) => {
    let answer: Answer;
    try {
      answer = { id, result: await methodsOf(target)[method](argument) };
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

/** The calling side of a port. */
export class RpcCaller {
  private readonly open = new Map<
    number,
    { resolve: (result: never) => void; reject: (error: BlkError) => void }
  >();
  private nextId = 0;
  private failure: BlkError | null = null;

  constructor(private readonly port: Pick<MessagePort, "postMessage"> & NodeJS.EventEmitter) {
    port.on("message", ({ id, result, error }: Answer) => {
      const waiting = this.open.get(id);
      this.open.delete(id);
      if (error === undefined) waiting?.resolve(result as never);
      else waiting?.reject(BlkError.fromJSON(error));
    });
  }

  /** Makes calls to `target`. */
  to<Methods extends RpcMethods>(target: CallTarget): RpcClient<Methods> {
    return (method, ...[argument]) =>
      new Promise((resolve, reject) => {
        if (this.failure !== null) {
          reject(this.failure);
          return;
        }
        const id = this.nextId++;
        this.open.set(id, { resolve, reject });
        this.port.postMessage({ id, target, method, argument } satisfies Call);
      });
  }

  /** Rejects all calls that are open, and every later one, with `reason`. */
  fail(reason: BlkError): void {
    this.failure = reason;
    for (const { reject } of this.open.values()) reject(reason);
    this.open.clear();
  }
}
