/** Links to the kernel, with a client at the other end of the pair in the kernel's place. */
import { once } from "node:events";
import { Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { KernelLinks } from "../../src/device/kernel-links.js";
import { silentLogger } from "../../src/nbd/logger.js";
import { NbdServer } from "../../src/nbd/server.js";
import { MemoryTarget } from "../nbd/support/memory-target.js";

const isLinux = process.platform === "linux";

function makeLinks(): KernelLinks {
  const exported = { name: "disk", target: new MemoryTarget() };
  const server = new NbdServer({ exports: [exported] });
  onTestFinished(() => server.close({ deadlineMs: 0 }));
  return new KernelLinks(server, exported, silentLogger);
}

function request(type: number, cookie: number, lengthBytes = 0): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(0x25609513, 0);
  header.writeUInt16BE(type, 6);
  header.writeUInt32BE(cookie, 12);
  header.writeUInt32BE(lengthBytes, 24);
  return header;
}

test.runIf(isLinux)(
  "a link is in transmission from its first byte, and a leave is told from a death",
  async () => {
    const kernelLinks = makeLinks();
    const { sockets, sizeBytes, transmissionFlags } = kernelLinks.open(2);
    expect(sizeBytes).toBe(2 ** 20);
    // HAS_FLAGS, SEND_FLUSH, SEND_FUA, CAN_MULTI_CONN.
    expect(transmissionFlags & 0x10d).toBe(0x10d);
    const [a, b] = sockets.map((fd) => new Socket({ fd, readable: true, writable: true }));
    a!.write(request(0, 5, 512));
    const chunks: Buffer[] = [];
    while (Buffer.concat(chunks).length < 16 + 512) chunks.push((await once(a!, "data"))[0]);
    const reply = Buffer.concat(chunks);
    expect(reply.readUInt32BE(0)).toBe(0x67446698);
    expect(reply.readUInt32BE(12)).toBe(5);
    expect(reply.length).toBe(16 + 512);

    b!.destroy();
    expect(await kernelLinks.nextEnd()).toEqual({ hasDisconnected: false });
    // Only what is missing is made.
    const again = kernelLinks.open(2);
    expect(again.sockets).toHaveLength(1);
    a!.write(request(2, 6));
    expect(await kernelLinks.nextEnd()).toEqual({ hasDisconnected: true });
    a!.destroy();
    new Socket({ fd: again.sockets[0]! }).destroy();
  },
);
