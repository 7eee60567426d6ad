/** NBD over vsock: with one machine on both ends, which is what the kernel's loopback transport is for. */
import { expect, test } from "vitest";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

describeWith(["qemu-system-x86_64", "nbdinfo", "nbdcopy"], "vsock", () => {
  test("carries what TCP carries: several connections, TLS, clients that go, and an end that leaves nothing", async () => {
    const { stdout } = await ublkGuest(
      `modprobe vsock_loopback
      echo user:0123456789abcdef > /tmp/keys
      blkforge serve instant --size 32M --tls-psk /tmp/keys --tls allow --listen nbd+vsock://1:0/d >/tmp/uri 2>/tmp/err & server=$!
      until grep -qs ready /tmp/uri; do
        kill -0 $server 2>/dev/null || { cat /tmp/err >&2; exit 1; }
        usleep 20000
      done
      uri=$(head -n1 /tmp/uri); echo uri $uri
      fails blkforge serve instant --listen $uri

      dd if=/dev/urandom of=/tmp/in bs=1M count=32 status=none
      nbdcopy --connections=4 /tmp/in $uri
      nbdcopy --connections=4 $uri /tmp/out && cmp /tmp/in /tmp/out && echo same
      secure=$(echo $uri | sed 's,nbd+vsock://,nbds+vsock://user@,')?tls-psk-file=/tmp/keys
      nbdcopy $secure /tmp/out && cmp /tmp/in /tmp/out && echo same by TLS

      nbdcopy $uri /tmp/out & client=$!
      kill -KILL $client; wait $client || true
      echo size $(nbdinfo --size $uri)
      kill -INT $server; wait $server && echo ended`,
      {
        cpus: 2,
        modules: ["vsock", "vsock_loopback"],
        tools: ["nbdinfo", "nbdcopy"],
      },
    );
    const [, uri] = /^uri (.*)$/m.exec(stdout)!;
    expect(uri).toMatch(/^nbd\+vsock:\/\/1:\d+\/d$/);
    expect(stdout).toContain(`cannot listen on ${uri}: port ${/:(\d+)\//.exec(uri)![1]} is in use`);
    expect(stdout).toContain("same\nsame by TLS\n");
    expect(stdout).toContain(`size ${32 * 2 ** 20}\nended\n`);
  });
});
