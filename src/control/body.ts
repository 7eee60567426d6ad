/**
 * Reads the body of a request as JSON, up to a limit.
 *
 * Hono's own limiter makes a new Request around what it has read, which its Node server cannot take for requests without a
 * length: curl -X DELETE sends none.
 */
import { BlkError } from "../base/errors.js";

/** A fault with all its ranges takes a few KiB. */
const maximumBodyBytes = 64 * 1024;

/** @throws BlkError BLK_E_API_BODY when it is too long, BLK_E_USAGE when it is no JSON. */
export async function readJson(request: Request): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    if (bytes > maximumBodyBytes) {
      throw new BlkError(
        "BLK_E_API_BODY",
        `the body of the request is over ${maximumBodyBytes} bytes`,
        "Send one fault at a time",
      );
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch (error) {
    throw new BlkError(
      "BLK_E_USAGE",
      `the body of the request is not JSON: ${(error as SyntaxError).message}`,
      'Send an object such as {"kind": "error", "trigger": {"ops": ["flush"]}}',
    );
  }
}
