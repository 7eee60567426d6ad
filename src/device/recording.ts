/**
 * The recording of a live device: what its model was asked and what it decided, written as it goes.
 *
 * Written synchronously from the device thread in pieces of 64 KiB, about every 1300 requests, so that the end of a
 * crash's story is missing at most one piece. Each write goes to the page cache and takes tens of microseconds, which
 * shows as lateness of the requests due in that moment.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { BlkError } from "../base/errors.js";
import type { RequestTable } from "../base/request.js";
import { RecordingWriter } from "../trace/recording.js";
import type { DeviceSpec } from "./spec.js";

export interface Recording {
  readonly writer: RecordingWriter;
  /** Marks the recording as complete and closes its file. */
  close(): void;
}

/** @throws BlkError BLK_E_FILE when the file cannot be written. */
export function openRecording(
  { record, profile, settings, seed }: DeviceSpec,
  requests: RequestTable,
  sizeBytes: number,
): Recording {
  let fd: number;
  try {
    fd = openSync(record ?? "", "w", 0o600);
  } catch (error) {
    throw new BlkError(
      "BLK_E_FILE",
      `recording "${record}" cannot be written: ${(error as Error).message}`,
      "Check its path",
    );
  }
  const header = {
    schemaVersion: 1 as const,
    profile: profile.name,
    settings,
    seed,
    sizeBytes,
    tableCapacity: requests.capacity,
  };
  // A disk that fills up ends the recording, not the device.
  let isFull = false;
  const write = (bytes: Uint8Array): void => {
    if (isFull) return;
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
    } catch (error) {
      isFull = true;
      process.stderr.write(`blkforge: recording "${record}" ends here: ${(error as Error).message}\n`);
    }
  };
  const writer = new RecordingWriter(header, requests, write);
  return {
    writer,
    close() {
      writer.end();
      closeSync(fd);
    },
  };
}
