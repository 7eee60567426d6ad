/** The conversation with the running kernel, held with the one family every kernel has. */
import { expect, test } from "vitest";
import { loadNative } from "../../../src/base/native.js";
import { GenericNetlink, NetlinkError } from "../../../src/nbd/kernel/generic-netlink.js";
import { find, readText, text } from "../../../src/nbd/kernel/netlink.js";

const controlFamily = { name: "nlctrl", version: 2, group: "notify" };
const hasNetlink = process.platform === "linux" && loadNative().NetlinkSocket !== undefined;

test.runIf(hasNetlink)(
  "a family answers on both ways of sending, and one that is missing is null",
  async () => {
    const netlink = await GenericNetlink.open(controlFamily, () => {});
    expect(netlink).not.toBeNull();
    for (const isInBackground of [false, true]) {
      const answer = await netlink!.request({ command: 3, attributes: [text(2, "nlctrl")], isInBackground });
      expect(readText(find(answer!.attributes, 2)!)).toBe("nlctrl");
    }
    netlink!.close();
    expect(await GenericNetlink.open({ ...controlFamily, name: "blkforge-none" }, () => {})).toBeNull();
  },
);

test.runIf(hasNetlink)("a refusal names the error, and a close rejects what is under way", async () => {
  const netlink = (await GenericNetlink.open(controlFamily, () => {}))!;
  await expect(netlink.request({ command: 200, attributes: [], isInBackground: false })).rejects.toThrow(
    NetlinkError,
  );
  const open = netlink.request({ command: 3, attributes: [text(2, "nlctrl")], isInBackground: true });
  netlink.close();
  await expect(open).rejects.toThrow("closed");
});

test.runIf(hasNetlink)("a socket pair is connected", async () => {
  const { Socket } = await import("node:net");
  const ends = new Int32Array(2);
  expect(loadNative().socketPair!(ends)).toBe(0);
  const [a, b] = [...ends].map((fd) => new Socket({ fd, readable: true, writable: true }));
  a!.end("hello");
  const chunks: Buffer[] = [];
  for await (const chunk of b!) chunks.push(chunk);
  expect(Buffer.concat(chunks).toString()).toBe("hello");
  b!.destroy();
});
