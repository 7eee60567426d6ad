import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RequestTable } from "../../src/base/request.js";
import { openTrace } from "../../src/trace/open.js";
import { type RecordingHeader, type RecordingReader, RecordingWriter } from "../../src/trace/recording.js";

const header: RecordingHeader = {
  schemaVersion: 1,
  profile: "hdd-7200",
  settings: ["latency.read=100us"],
  seed: 7,
  sizeBytes: 2 ** 40,
  tableCapacity: 64,
};

interface Arrival {
  op: number;
  flags: number;
  queue: number;
  offsetBytes: number;
  lengthBytes: number;
  arrivalNs: number;
}

/** Writes arrivals, each completed at its due time right after `lag` others have arrived, as one byte array. */
function record(arrivals: (Arrival & { dueNs: number })[], lag: number, isEnded = true): Buffer {
  const requests = new RequestTable(64);
  const chunks: Buffer[] = [];
  const writer = new RecordingWriter(header, requests, (bytes) => chunks.push(Buffer.from(bytes)));
  const open: { slot: number; dueNs: number }[] = [];
  for (const arrival of arrivals) {
    const slot = requests.acquire();
    requests.op[slot] = arrival.op;
    requests.flags[slot] = arrival.flags;
    requests.queue[slot] = arrival.queue;
    requests.offsetBytes[slot] = arrival.offsetBytes;
    requests.lengthBytes[slot] = arrival.lengthBytes;
    requests.arrivalNs[slot] = arrival.arrivalNs;
    writer.arrival(slot);
    open.push({ slot, dueNs: arrival.dueNs });
    if (open.length > lag) {
      const done = open.shift()!;
      writer.completion(done.slot, done.dueNs);
      requests.release(done.slot);
    }
  }
  for (const done of open) writer.completion(done.slot, done.dueNs);
  if (isEnded) writer.end();
  else writer.flush();
  return Buffer.concat(chunks);
}

function open(bytes: Uint8Array) {
  let at = 0;
  const source = {
    read(target: Uint8Array): number {
      const length = Math.min(target.length, bytes.length - at);
      target.set(bytes.subarray(at, at + length));
      at += length;
      return length;
    },
    close() {},
  };
  const { reader, recording, format } = openTrace("run.rec", { source });
  expect(format).toBe("recording");
  return { reader, recording: recording as RecordingReader };
}

function readBack(bytes: Uint8Array) {
  const { reader, recording } = open(bytes);
  const arrivals: Arrival[] = [];
  const completions: [number, number][] = [];
  recording.onCompletion = (ordinal, dueNs) => completions.push([ordinal, dueNs]);
  while (reader.next()) {
    const { op, flags, queue, offsetBytes, lengthBytes, arrivalNs } = reader.record;
    arrivals.push({ op, flags, queue, offsetBytes, lengthBytes, arrivalNs });
  }
  return { arrivals, completions, recording };
}

const time = fc.double({ min: 0, max: 1e16, noNaN: true });
const arrival = fc.record({
  op: fc.integer({ min: 0, max: 4 }),
  flags: fc.integer({ min: 0, max: 3 }),
  queue: fc.integer({ min: 0, max: 65535 }),
  offsetBytes: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
  lengthBytes: fc.integer({ min: 0, max: 2 ** 32 }),
  arrivalNs: time,
  dueNs: time,
});

describe("recording", () => {
  test("everything comes back to the bit, whatever is in it", () => {
    fc.assert(
      fc.property(fc.array(arrival, { maxLength: 200 }), fc.integer({ min: 0, max: 60 }), (written, lag) => {
        const { arrivals, completions, recording } = readBack(record(written, lag));
        expect(arrivals).toEqual(written.map(({ dueNs: _, ...rest }) => rest));
        expect(completions).toEqual(written.map(({ dueNs }, i) => [i, dueNs]));
        expect(recording.header).toEqual(header);
        expect(recording.isComplete).toBe(true);
      }),
    );
  });

  const many = Array.from({ length: 10_000 }, (_, i) => ({
    op: i % 2,
    flags: 0,
    queue: 0,
    offsetBytes: i * 4096,
    lengthBytes: 4096,
    arrivalNs: i / 3,
    dueNs: i / 3 + 1000.1,
  }));

  test("records across the writer's buffers stay whole", () => {
    const { arrivals, completions } = readBack(record(many, 50));
    expect(arrivals).toHaveLength(10_000);
    expect(completions.every(([ordinal, dueNs]) => dueNs === ordinal / 3 + 1000.1)).toBe(true);
  });

  test("a recording cut off anywhere is good up to there, and says it has no end", () => {
    const whole = record(many.slice(0, 20), 3);
    const headerLength = record([], 0, false).length;
    for (let length = headerLength; length < whole.length; length += 7) {
      const { arrivals, recording } = readBack(whole.subarray(0, length));
      expect(arrivals).toEqual(many.slice(0, arrivals.length).map(({ dueNs: _, ...rest }) => rest));
      expect(recording.isComplete).toBe(false);
    }
  });

  test("a damaged recording is an error, not nonsense", () => {
    const bytes = record(many.slice(0, 2), 0);
    const headerLength = record([], 0, false).length;
    bytes[headerLength] = 9;
    expect(() => readBack(bytes)).toThrow("a record of unknown kind 9");
    bytes[headerLength] = 1;
    bytes[headerLength + 1] = 99;
    expect(() => readBack(bytes)).toThrow("an operation of unknown code 99");
    bytes[headerLength] = 2;
    expect(() => readBack(bytes)).toThrow("where nothing has arrived");
    expect(() => readBack(Buffer.from("blkforge recording 1\n{oops\n"))).toThrow(
      "run.rec:2: the recording's header is damaged",
    );
    expect(() => readBack(Buffer.from('blkforge recording 1\n{"schemaVersion":2}\n'))).toThrow(
      "schema version 2",
    );
  });
});
