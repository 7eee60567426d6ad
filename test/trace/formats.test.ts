import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Flag, operations } from "../../src/base/request.js";
import { openTrace, traceFormats } from "../../src/trace/open.js";
import type { TraceRecord } from "../../src/trace/trace.js";

/** Bytes of a text, handed out in pieces as small as a pipe might. */
function sourceOf(text: string, pieceBytes = 1 << 20) {
  const bytes = Buffer.from(text, "latin1");
  let at = 0;
  return {
    read(target: Uint8Array): number {
      const length = Math.min(target.length, pieceBytes, bytes.length - at);
      target.set(bytes.subarray(at, at + length));
      at += length;
      return length;
    },
    close() {},
  };
}

interface Options {
  format?: string;
  device?: string;
  pieceBytes?: number;
}

function readAll(text: string, { format, device, pieceBytes }: Options = {}) {
  const trace = openTrace("trace", { format, device, source: sourceOf(text, pieceBytes) });
  const records: TraceRecord[] = [];
  while (trace.reader.next()) records.push({ ...trace.reader.record });
  return { format: trace.format, defaultLoop: trace.defaultLoop, records };
}

/** What matters of a record, short. */
function brief({ op, offsetBytes, lengthBytes, arrivalNs, flags }: TraceRecord): string {
  return `${operations[op]}${flags & Flag.fua ? " fua" : ""} ${offsetBytes}+${lengthBytes} @${arrivalNs}`;
}

const iolog2 = `fio version 2 iolog
/dev/sda add
/dev/sda open
/dev/sda read 4096 8192
/dev/sda wait 50 0
/dev/sda wait 500 0
/dev/sda write 0 512
/dev/sda wait 300 0
/dev/sda sync 0 0
/dev/sda trim 65536 4096
/dev/sda close
`;

const iolog3 = `fio version 3 iolog
1 /dev/nbd0 add
2 /dev/nbd0 open
100 /dev/nbd0 read 4096 8192
250 /dev/nbd0 write 0 512
251 /dev/nbd0 datasync 0 0
900 /dev/nbd0 trim 65536 4096
901 /dev/nbd0 close
`;

const blkparseText = `  8,0    3        1     0.000000000   697  G   W 223490 + 8 [kjournald]
  8,0    3        2     0.000001829   697  Q   R 2048 + 16 [fio]
  8,0    1        3     0.000005000   697  D   R 2048 + 24 [fio]
  8,0    1        4     0.000007000   697  C   R 2048 + 24 [0]
  8,0    0        5     1.500000001   698  D  WS 4096 + 8 [fio]
  8,0    0        6     1.500000002   698  D WFS 4104 + 8 [fio]
  8,0    0        7     1.500000003   698  D  FN [kworker/0:1H]
  8,0    0        8     1.500000004   698  Q FWFS 8192 + 8 [jbd2/sda1-8]
  8,0    0        9     1.500000005   698  D   D 10240 + 2048 [fstrim]
  8,0    0        0     1.600000000     0  m   N cfq workload slice:100

CPU0 (sda):
 Reads Queued:           1,        8KiB  Writes Queued:           1,        4KiB
`;

const disksim = `R  Hit   1234567     4  8123.500    45000.125
W  Hit       100    12   900.250     1000.000
R  Miss      112     4  2000.000        0.000
`;

const msr = `128166372003061629,usr,0,Read,7014609920,24576,41286
128166372016382155,usr,0,Write,1317441536,8192,1963
128166372026382245,usr,0,Read,2436440064,4096,1835
`;

const alibaba = `419,W,8792731648,16384,1577808000000046
419,R,4096,4096,1577808000000100
`;

describe("trace formats", () => {
  test("fio iolog v2: waits add up to the next request's time, short ones are dropped", () => {
    const { format, defaultLoop, records } = readAll(iolog2);
    expect([format, defaultLoop]).toEqual(["iolog", "closed"]);
    expect(records.map(brief)).toEqual([
      "read 4096+8192 @0",
      "write 0+512 @500000",
      "flush 0+0 @800000",
      "trim 65536+4096 @800000",
    ]);
    expect(records.map(({ thinkNs }) => thinkNs)).toEqual([0, 500_000, 300_000, 0]);
  });

  test("fio iolog v3: every line has a time stamp in microseconds", () => {
    const { format, defaultLoop, records } = readAll(iolog3);
    expect([format, defaultLoop]).toEqual(["iolog", "open"]);
    expect(records.map(brief)).toEqual([
      "read 4096+8192 @100000",
      "write 0+512 @250000",
      "flush 0+0 @251000",
      "trim 65536+4096 @900000",
    ]);
  });

  test("blkparse: D events by default, with FUA, flushes and discards; all else is passed over", () => {
    const { format, records } = readAll(blkparseText);
    expect(format).toBe("blkparse");
    expect(records.map(brief)).toEqual([
      "read 1048576+12288 @5000",
      "write 2097152+4096 @1500000001",
      "write fua 2101248+4096 @1500000002",
      "flush 0+0 @1500000003",
      "trim 5242880+1048576 @1500000005",
    ]);
    expect(records[0].queue).toBe(1);
  });

  test("blkparse-q: Q events, a flush in front of a write as two requests", () => {
    const { records } = readAll(blkparseText, { format: "blkparse-q" });
    expect(records.map(brief)).toEqual([
      "read 1048576+8192 @1829",
      "flush 0+0 @1500000004",
      "write fua 4194304+4096 @1500000004",
    ]);
  });

  test("DiskSim validate: blocks of 512 bytes, issue times from the measured ones", () => {
    const { format, defaultLoop, records } = readAll(disksim);
    expect([format, defaultLoop]).toEqual(["disksim", "closed"]);
    expect(records.map(brief)).toEqual([
      `read ${1234567 * 512}+2048 @0`,
      "write 51200+6144 @53123625",
      "read 57344+2048 @55023875",
    ]);
    expect(records.map(({ thinkNs }) => thinkNs)).toEqual([0, 45_000_125, 1_000_000]);
    expect(records.map(({ serviceNs }) => serviceNs)).toEqual([8_123_500, 900_250, 2_000_000]);
  });

  test("MSR: FILETIMEs beyond 2^53 keep their last digit", () => {
    const { format, records } = readAll(msr);
    expect(format).toBe("msr");
    expect(records.map(brief)).toEqual([
      "read 7014609920+24576 @0",
      `write 1317441536+8192 @${13_320_526 * 100}`,
      `read 2436440064+4096 @${23_320_616 * 100}`,
    ]);
    expect(records[0].serviceNs).toBe(4_128_600);
    expect(records[1].thinkNs).toBe(13_320_526 * 100 - 4_128_600);
  });

  test("Alibaba: microseconds since the first request", () => {
    const { format, records } = readAll(alibaba);
    expect(format).toBe("alibaba");
    expect(records.map(brief)).toEqual(["write 8792731648+16384 @0", "read 4096+4096 @54000"]);
  });

  test.each([
    ["iolog", iolog3],
    ["blkparse", blkparseText],
    ["disksim", disksim],
    ["msr", msr],
    ["alibaba", alibaba],
  ])("%s reads the same with CRLF, without the last newline, and in pieces of one byte", (_, text) => {
    const expected = readAll(text);
    expect(readAll(text.replaceAll("\n", "\r\n"))).toEqual(expected);
    expect(readAll(text.trimEnd())).toEqual(expected);
    expect(readAll(text, { pieceBytes: 1 })).toEqual(expected);
  });

  test("a window's end in the middle of lines loses nothing", () => {
    const line = (i: number) => `7,R,${i * 4096},4096,${1577808000000000 + i}\n`;
    const text = Array.from({ length: 30_000 }, (_, i) => line(i)).join("");
    const { records } = readAll(text);
    expect(records).toHaveLength(30_000);
    expect(
      records.every(({ offsetBytes, arrivalNs }, i) => offsetBytes === i * 4096 && arrivalNs === i * 1000),
    ).toBe(true);
  });

  test("several devices are refused, unless one is chosen", () => {
    const mixed = "1,R,0,4096,100\n2,R,4096,4096,101\n1,W,8192,4096,102\n";
    expect(() => readAll(mixed)).toThrow("trace:2: the trace has requests of several devices, 1 and 2");
    expect(readAll(mixed, { device: "1" }).records.map(brief)).toEqual([
      "read 0+4096 @0",
      "write 8192+4096 @2000",
    ]);
    const volumes = `${msr}128166372026382300,usr,1,Read,0,4096,1835\n`;
    expect(() => readAll(volumes)).toThrow(
      "trace:4: the trace has requests of several volumes, usr,0 and usr,1",
    );
    expect(readAll(volumes, { device: "usr,1" }).records.map(brief)).toEqual(["read 0+4096 @0"]);
  });

  test.each([
    ["fio version 2 iolog\n/dev/sda read 4k 8192\n", 'trace:2: "4k" is not an offset in bytes'],
    ["fio version 2 iolog\n/dev/sda jump 0 0\n", 'trace:2: "jump" is no action'],
    ["fio version 3 iolog\n12 /dev/sda read\n", "trace:2: the line is too short"],
    ["R Hit 1 2 3.0 4.0\nR Hit 1 2 3.0\n", "trace:2: the line has 5 fields"],
    ["R Hit 1 2 3.0 4.0\nX Hit 1 2 3.0 4.0\n", 'trace:2: "X" is neither R nor W'],
    ["1,R,0,4096,100\n1,R,0,4096\n", "trace:2: the line has 4 fields"],
    ["1,R,0,4096,100\n1,R,-8,4096,100\n", 'trace:2: "-8" is not an offset in bytes'],
    ["1,R,0,4096,100\n1,R,99999999999999999999,4096,100\n", "is not an offset in bytes"],
    [`${msr}12816637200306x629,usr,0,Read,0,4096,1\n`, 'trace:4: "12816637200306x629" is not a time stamp'],
  ])("a bad line is an error with its number (%#)", (text, message) => {
    expect(() => readAll(text)).toThrow(message);
  });

  test("a file of no known format, and a format of no known name, are errors", () => {
    expect(() => readAll("hello\nworld\n")).toThrow("trace has no format that is recognised");
    expect(() => readAll("", { format: "auto" })).toThrow("trace has no format that is recognised");
    expect(() => readAll(msr, { format: "tape" })).toThrow('"tape" is no trace format');
    expect(() => readAll(msr, { format: "recording" })).toThrow("trace is no recording");
    expect(() => openTrace("/nowhere/trace")).toThrow("trace /nowhere/trace cannot be read");
    expect(() => readAll("x".repeat(300_000), { format: "alibaba" })).toThrow("longer than 65536 bytes");
  });

  test("every format has a name of its own and a description", () => {
    expect(new Set(traceFormats.map(({ name }) => name)).size).toBe(traceFormats.length);
    for (const { description } of traceFormats) expect(description).not.toBe("");
  });

  const measuredFolder = join(import.meta.dirname, "../../../shared/data/disksim");
  test.skipIf(!existsSync(measuredFolder))(
    "the measured traces of DiskSim read as their documentation says",
    () => {
      // Mean service time in ms and number of reads, from the traces' README.
      const expected = { atlas10k: [3.893, 6569], atlas_III: [6.263, 6498], barracuda: [6.627, 6511] };
      for (const [drive, [meanMs, reads]] of Object.entries(expected)) {
        const trace = openTrace(join(measuredFolder, `${drive}.trace`));
        let count = 0;
        let readCount = 0;
        let totalNs = 0;
        while (trace.reader.next()) {
          count++;
          if (trace.reader.record.op === 0) readCount++;
          totalNs += trace.reader.record.serviceNs;
        }
        trace.close();
        expect([trace.format, count, readCount]).toEqual(["disksim", 10_000, reads]);
        expect(totalNs / count / 1e6).toBeCloseTo(meanMs, 3);
      }
    },
  );
});
