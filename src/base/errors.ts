/**
 * Every error a person can meet, in one table: a stable code, its exit status, and the sentence's second half that
 * tells what to do. `docs/errors.md` has one anchor per code; a test keeps the two together.
 *
 * Typed errors are for what the world does (bad input, port in use, no module). What *we* got wrong is `assert.ts`.
 */

export const ExitCode = Object.freeze({ ok: 0, checkFailed: 1, usage: 2, environment: 3 });

interface ErrorKind {
  exitCode: number;
  /** Status of the HTTP answer when the error leaves through the API. */
  httpStatus: number;
}

const usage: ErrorKind = { exitCode: ExitCode.usage, httpStatus: 400 };
const missing: ErrorKind = { exitCode: ExitCode.usage, httpStatus: 404 };
const conflict: ErrorKind = { exitCode: ExitCode.usage, httpStatus: 409 };
const environment: ErrorKind = { exitCode: ExitCode.environment, httpStatus: 503 };
const failed: ErrorKind = { exitCode: ExitCode.checkFailed, httpStatus: 500 };

export const errorKinds = {
  BLK_E_USAGE: usage,
  BLK_E_SIZE: usage,
  BLK_E_DURATION: usage,
  BLK_E_PROFILE_UNKNOWN: missing,
  BLK_E_PROFILE_UNREADABLE: usage,
  BLK_E_PROFILE_SYNTAX: usage,
  BLK_E_PROFILE_INVALID: usage,
  BLK_E_SETTING: usage,
  BLK_E_CONFIG: usage,
  BLK_E_NBD_URI: usage,
  BLK_E_LISTEN: conflict,
  BLK_E_TLS: usage,
  BLK_E_FILE: usage,
  BLK_E_ZONED: usage,
  BLK_E_FLOOR: usage,
  BLK_E_WORKLOAD: usage,
  BLK_E_TRACE: usage,
  BLK_E_FAULT_INVALID: usage,
  BLK_E_FAULT_UNKNOWN: missing,
  BLK_E_FAULT_EXISTS: conflict,
  BLK_E_FAULT_LIMIT: conflict,
  BLK_E_DEVICE_UNKNOWN: missing,
  BLK_E_HEALTH: missing,
  BLK_E_API: environment,
  BLK_E_API_ROUTE: missing,
  BLK_E_API_BODY: { exitCode: ExitCode.usage, httpStatus: 413 },
  BLK_E_NATIVE: environment,
  BLK_E_MEMORY: environment,
  BLK_E_NBD_MODULE: environment,
  BLK_E_UBLK_MODULE: environment,
  BLK_E_UBLK_FEATURE: environment,
  BLK_E_UBLK: environment,
  BLK_E_PRIVILEGE: environment,
  BLK_E_DEVICE_BUSY: conflict,
  BLK_E_ATTACH: environment,
  BLK_E_PACKAGES: environment,
  BLK_E_KERNEL: environment,
  BLK_E_VM: environment,
  BLK_E_VM_DEADLINE: environment,
  BLK_E_COMMAND: environment,
  BLK_E_INTERNAL: failed,
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorKinds;

/**
 * An error with a way out.
 *
 * @example
 * throw new BlkError("BLK_E_SIZE", 'size "10X" is not a size', "Write 512, 10M, 2G or 1T.");
 */
export class BlkError extends Error {
  readonly code: ErrorCode;
  /** What to do about it; a sentence. */
  readonly hint: string;

  constructor(code: ErrorCode, message: string, hint = "", options?: ErrorOptions) {
    super(message, options);
    this.name = "BlkError";
    this.code = code;
    this.hint = hint;
  }

  get exitCode(): number {
    return errorKinds[this.code].exitCode;
  }

  get httpStatus(): number {
    return errorKinds[this.code].httpStatus;
  }

  /** The one line shown to a person. */
  toLine(): string {
    return `${this.code}  ${this.message}${this.hint === "" ? "" : `. ${this.hint}`}`;
  }

  toJSON(): { code: ErrorCode; message: string; hint: string } {
    return { code: this.code, message: this.message, hint: this.hint };
  }

  /** Brings an error back from the shape `toJSON` gave it (over a worker's port, or over HTTP). */
  static fromJSON(json: { code: ErrorCode; message: string; hint: string }): BlkError {
    return new BlkError(json.code, json.message, json.hint);
  }
}

/** Whether `error` is a system error with the given code, such as "ENOENT". */
export function isSystemError(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}
