/**
 * Client of the control API over its Unix socket. A device seen through it has the very interface it has in the
 * process that serves it, and errors come back as the `BlkError`s they were.
 *
 * @example
 * const device = await new ControlClient("unix:/tmp/blkforge.api").device();
 * await device.faults.add({ kind: "error", trigger: { ops: ["flush"], nth: 3 } });
 */
import { request } from "node:http";
import { BlkError, type ErrorCode, errorKinds, isSystemError } from "../base/errors.js";
import type { HealthLog } from "../base/health.js";
import type { LatencySummary } from "../base/histogram.js";
import { operations } from "../base/request.js";
import type { DeviceDescription } from "../device/spec.js";
import type { FaultKindReport } from "../fault/kinds.js";
import type { FaultReport } from "../fault/set.js";
import { parseApiAddress } from "./address.js";
import type { DeviceControl } from "./control.js";
import { type StatsReport, schemaVersion } from "./stats-shape.js";

/** Calls are answered in milliseconds; a device thread that is stuck for this long will not answer. */
const answerTimeoutMs = 10_000;

/** The largest answer is the list of 64 faults with 64 ranges each, well under this. */
const maximumAnswerBytes = 16 * 2 ** 20;

type Method = "GET" | "POST" | "PATCH" | "DELETE";

export class ControlClient {
  private readonly path: string;

  /** @param address `unix:PATH`, as given to `--api`. */
  constructor(private readonly address: string) {
    this.path = parseApiAddress(address);
  }

  async version(): Promise<string> {
    return (await this.call<{ version: string }>("GET", "/version")).version;
  }

  async faultKinds(): Promise<FaultKindReport[]> {
    return (await this.call<{ kinds: FaultKindReport[] }>("GET", "/faults/kinds")).kinds;
  }

  async devices(): Promise<DeviceDescription[]> {
    return (await this.call<{ devices: DeviceDescription[] }>("GET", "/devices")).devices;
  }

  /**
   * The device of this name; the only one there is, when no name is given.
   *
   * @throws BlkError BLK_E_DEVICE_UNKNOWN
   */
  async device(name?: string): Promise<DeviceControl> {
    const names = (await this.devices()).map((device) => device.name);
    const chosen = name ?? (names.length === 1 ? names[0] : undefined);
    if (chosen !== undefined && names.includes(chosen)) return this.control(chosen);
    throw new BlkError(
      "BLK_E_DEVICE_UNKNOWN",
      name === undefined
        ? `${names.length} devices are served at ${this.address}`
        : `no device "${name}" is served at ${this.address}`,
      names.length === 0 ? "Nothing is served there" : `Name one of ${names.join(", ")}`,
    );
  }

  private control(name: string): DeviceControl {
    const base = `/devices/${encodeURIComponent(name)}`;
    const faultOf = (fault: string) => `${base}/faults/${encodeURIComponent(fault)}`;
    const oneFault = async (method: Method, path: string, body?: unknown) =>
      (await this.call<{ fault: FaultReport }>(method, path, body)).fault;
    return {
      name,
      describe: async () => (await this.call<{ device: DeviceDescription }>("GET", base)).device,
      stats: async () => withNaN(await this.call<StatsReport>("GET", `${base}/stats`)),
      health: async () => (await this.call<{ health: HealthLog }>("GET", `${base}/health`)).health,
      resize: async (sizeBytes) =>
        (await this.call<{ device: DeviceDescription }>("PATCH", base, { size: sizeBytes })).device,
      faults: {
        add: (spec) => oneFault("POST", `${base}/faults`, spec),
        list: async () => (await this.call<{ faults: FaultReport[] }>("GET", `${base}/faults`)).faults,
        get: (fault) => oneFault("GET", faultOf(fault)),
        arm: (fault, isArmed) => oneFault("POST", `${faultOf(fault)}/${isArmed ? "arm" : "disarm"}`),
        release: (fault) => oneFault("POST", `${faultOf(fault)}/release`),
        remove: (fault) => oneFault("DELETE", faultOf(fault)),
        reset: async () =>
          (await this.call<{ removed: FaultReport[] }>("POST", `${base}/faults/reset`)).removed,
      },
    };
  }

  private async call<Answer>(method: Method, path: string, body?: unknown): Promise<Answer> {
    const { status, text } = await this.send(method, path, body === undefined ? "" : JSON.stringify(body));
    const answer = this.parse(text);
    if (status >= 400) {
      if (isErrorAnswer(answer)) throw BlkError.fromJSON(answer);
      throw this.notBlkforge(`answered with HTTP status ${status}`);
    }
    if (Reflect.get(answer, "schemaVersion") !== schemaVersion) {
      throw this.notBlkforge(
        `speaks version ${String(Reflect.get(answer, "schemaVersion"))} of the API, not ${schemaVersion}`,
      );
    }
    return answer as Answer;
  }

  private parse(text: string): object {
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null) return value;
    } catch {
      // What is not JSON is no more of an answer than what is not an object.
    }
    throw this.notBlkforge("did not answer with a JSON object");
  }

  private send(method: Method, path: string, body: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const call = request({
        socketPath: this.path,
        method,
        path,
        // One connection per call: nothing stays open that would have to be closed.
        agent: false,
        headers: {
          host: "localhost",
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
        },
        signal: AbortSignal.timeout(answerTimeoutMs),
      });
      const fail = (error: Error) => reject(error instanceof BlkError ? error : this.unreachable(error));
      call.once("error", fail);
      call.once("response", (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        response.on("data", (chunk: Buffer) => {
          length += chunk.length;
          if (length > maximumAnswerBytes) call.destroy(this.notBlkforge("answered without an end"));
          else chunks.push(chunk);
        });
        response.once("error", fail);
        response.once("end", () => {
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
        });
      });
      call.end(body);
    });
  }

  private notBlkforge(what: string): BlkError {
    return new BlkError(
      "BLK_E_API",
      `what listens at ${this.address} ${what}`,
      "Check that it is the --api address of a blkforge of the same version",
    );
  }

  private unreachable(error: Error): BlkError {
    const serve = `Serve the device with --api ${this.address}, or give the address it was served with`;
    const [what, hint] = isSystemError(error, "ENOENT")
      ? ["there is no such socket", serve]
      : isSystemError(error, "ECONNREFUSED")
        ? ["nobody listens there any more", serve]
        : isSystemError(error, "EACCES")
          ? ["it belongs to another user", "Run this command as the user who serves the device"]
          : error.name === "TimeoutError" || error.name === "AbortError"
            ? [
                `no answer within ${answerTimeoutMs / 1000} s`,
                "Look at the log of the process that serves it",
              ]
            : [error.message, "Look at the log of the process that serves it"];
    return new BlkError("BLK_E_API", `cannot reach the API at ${this.address}: ${what}`, hint, {
      cause: error,
    });
  }
}

function isErrorAnswer(answer: object): answer is { code: ErrorCode; message: string; hint: string } {
  const { code, message, hint } = answer as Partial<Record<string, unknown>>;
  return (
    typeof code === "string" && code in errorKinds && typeof message === "string" && typeof hint === "string"
  );
}

/** JSON has no NaN: the figures of empty histograms come as null and are what they were again. */
function withNaN(stats: StatsReport): StatsReport {
  const summaries = [stats.lateness, ...operations.map((op) => stats.operations[op].latency)];
  for (const summary of summaries) {
    for (const key of Object.keys(summary) as (keyof LatencySummary)[]) summary[key] ??= Number.NaN;
  }
  return stats;
}
