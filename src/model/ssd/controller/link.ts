/**
 * The serial link between device and host: how long data take on the wires, and who has to wait for them.
 *
 * Transfers are served in the order in which they are asked for; a caller asks when the data are ready, so that the
 * wires are never kept for somebody who is not. Long ones are asked for in chunks, which lets others in between.
 * Over PCI Express each direction has its own wires; SATA carries one frame at a time in either direction.
 *
 * What commands themselves take on the wires (64 bytes of a submission, 16 of a completion) is left to the caller, who
 * may reserve it as a transfer like any other; flow control of packets, retries and power states are not modelled.
 */
import type { LinkParameters } from "./schema.js";

/** From the device to the host (reads), and from the host to the device (writes). */
export const Direction = Object.freeze({ toHost: 0, toDevice: 1 });

export class Link {
  /** Bytes of data a second that one direction carries. */
  readonly bytesPerSecond: number;
  /** Largest piece to ask for at once. */
  readonly chunkBytes: number;
  /** From the end of a transfer until the other side has noticed. */
  readonly latencyNs: number;

  private readonly nsPerByte: number;
  private readonly isShared: boolean;
  private readonly freeNs = new Float64Array(2);
  private readonly busyNs = new Float64Array(2);

  constructor(parameters: LinkParameters) {
    this.bytesPerSecond =
      parameters.kind === "pcie"
        ? pcieBytesPerSecond(parameters.generation, parameters.lanes, parameters.maxPayload)
        : sataBytesPerSecond(parameters.gigabits);
    this.nsPerByte = 1e9 / this.bytesPerSecond;
    this.isShared = parameters.kind === "sata";
    this.chunkBytes = parameters.chunkSize;
    this.latencyNs = parameters.latency;
  }

  /** Time `bytes` take on the wires. */
  timeNs(bytes: number): number {
    return bytes * this.nsPerByte;
  }

  /** When the wires are free. */
  freeAtNs(direction: number): number {
    return this.freeNs[this.wires(direction)];
  }

  /**
   * Sends `bytes` that are ready at `readyNs`, after all that was asked for before; returns when the last has arrived.
   *
   * Where it began to move is that time less `timeNs(bytes)`.
   */
  reserve(direction: number, bytes: number, readyNs: number): number {
    const wires = this.wires(direction);
    const takesNs = bytes * this.nsPerByte;
    const endNs = Math.max(readyNs, this.freeNs[wires]) + takesNs;
    this.freeNs[wires] = endNs;
    this.busyNs[wires] += takesNs;
    return endNs;
  }

  /** Time the wires have been asked to work so far, for utilisation. */
  totalBusyNs(direction: number): number {
    return this.busyNs[this.wires(direction)];
  }

  private wires(direction: number): number {
    return this.isShared ? 0 : direction;
  }
}

/** Giga-transfers a second of a lane by generation, and the share of them that is data after line coding. */
const pcieGenerations = [
  { rate: 2.5e9, coding: 8 / 10 },
  { rate: 5e9, coding: 8 / 10 },
  { rate: 8e9, coding: 128 / 130 },
  { rate: 16e9, coding: 128 / 130 },
  { rate: 32e9, coding: 128 / 130 },
];

/**
 * What surrounds the data of a packet on the wires, in bytes (PCI Express Base Specification 3.0):
 * - 16, the header of a memory write with 64-bit addresses (2.2.4.1); read completions have 12, taken as the same,
 * - 4, the LCRC (3.5.2.1),
 * - 4, framing: the STP token, sequence number included (4.2.2.3.1); before generation 3 STP, sequence number, END,
 * - 8, one packet of the data link layer, Ack or UpdateFC, per packet of data (3.4).
 */
const pciePacketBytes = 16 + 4 + 4 + 8;

/**
 * Payload rate of one direction: lanes x transfers/8 x coding x payload / (payload + packet).
 * Generations 3, 4 and 5 with 4 lanes and 256-byte packets: 3.50, 7.00 and 14.0 GB/s.
 */
export function pcieBytesPerSecond(generation: number, lanes: number, maxPayloadBytes: number): number {
  const { rate, coding } = pcieGenerations[generation - 1];
  return (lanes * rate * coding * maxPayloadBytes) / (maxPayloadBytes + pciePacketBytes) / 8;
}

/**
 * A frame carries up to 8192 bytes of data (Serial ATA 3.x, 10.5.11 "Data FIS"), with SOF, header, CRC and EOF of 4 each,
 * and between frames a hand-shake of primitives each way (X_RDY, R_RDY, WTRM, R_OK, SYNC) and the frames of the command
 * itself. The hand-shake's time is chosen so that 6 Gb/s, 600 MB/s after 8b/10b coding, come to the 560 MB/s that the
 * fastest drives reach; it is unverified beyond that.
 */
const sataFrameBytes = 8192;
const sataFrameOverheadBytes = 16;
const sataHandshakeNs = 948;

export function sataBytesPerSecond(gigabits: number): number {
  const wireBytesPerSecond = (gigabits * 1e9) / 10;
  const frameNs = ((sataFrameBytes + sataFrameOverheadBytes) / wireBytesPerSecond) * 1e9 + sataHandshakeNs;
  return (sataFrameBytes / frameNs) * 1e9;
}
