/**
 * How long a command keeps the controller from the next one: a time per command, and for large ones the time its data
 * take through the controller's own memory, if that is longer.
 */
import { Op, type RequestTable } from "../../base/request.js";
import type { SsdParameters } from "./schema.js";

export class ControllerTime {
  private readonly readNsPerByte: number;
  private readonly writeNsPerByte: number;

  constructor(
    private readonly firmware: SsdParameters["firmware"],
    private readonly maximumTransferBytes: number,
    private readonly requests: RequestTable,
  ) {
    const { throughput } = firmware;
    this.readNsPerByte = throughput === undefined ? 0 : 1e9 / throughput.read;
    this.writeNsPerByte = throughput === undefined ? 0 : 1e9 / throughput.write;
  }

  /** Commands the host makes of a request: it splits what is larger than the drive takes at once (MDTS). */
  commands(slot: number): number {
    const { op, lengthBytes } = this.requests;
    if (op[slot] !== Op.read && op[slot] !== Op.write) return 1;
    const bytes = lengthBytes[slot];
    return bytes <= this.maximumTransferBytes ? 1 : Math.ceil(bytes / this.maximumTransferBytes);
  }

  /** Time of one command. */
  commandNs(slot: number): number {
    const { command } = this.firmware;
    return this.requests.op[slot] === Op.read ? command.read : command.write;
  }

  busyNs(slot: number): number {
    const { op, lengthBytes } = this.requests;
    const commandsNs = this.commands(slot) * this.commandNs(slot);
    if (op[slot] === Op.read) return Math.max(commandsNs, lengthBytes[slot] * this.readNsPerByte);
    if (op[slot] === Op.write) return Math.max(commandsNs, lengthBytes[slot] * this.writeNsPerByte);
    return commandsNs;
  }
}
