/** TLS with real clients, which use GnuTLS where the server has OpenSSL: certificates both ways, and pre-shared keys. */
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { blkforge, command, scratchDirectory, serve, succeed } from "../support/blkforge.js";
import { certificates } from "../support/certificates.js";
import { describeWith } from "../support/requires.js";

const MiB = 1 << 20;

async function serveCertified(directory: string, ...more: string[]) {
  const server = await serve(
    [
      ...["instant", "--size", "16M", "--listen", "nbd://localhost:0/disk"],
      ...["--tls-cert", join(directory, "server-cert.pem"), "--tls-key", join(directory, "server-key.pem")],
      ...more,
    ],
    { isListening: false },
  );
  const [uri] = server.uris;
  expect(uri).toMatch(/^nbds:\/\/localhost:\d+\/disk$/);
  return { server, uri, port: Number(new URL(uri).port) };
}

function sampleImage(): string {
  const path = join(scratchDirectory(), "image");
  writeFileSync(path, Buffer.concat([randomBytes(5 * MiB), Buffer.alloc(3 * MiB), randomBytes(8 * MiB)]));
  return path;
}

describeWith(["openssl", "nbdinfo", "nbdcopy", "qemu-img"], "certificates", () => {
  test("libnbd's tools verify the server, and copy over four connections", async () => {
    const directory = await certificates();
    const { uri } = await serveCertified(directory);
    // The folder of an authority alone: this client shows no certificate.
    const trust = scratchDirectory();
    writeFileSync(join(trust, "ca-cert.pem"), readFileSync(join(directory, "ca-cert.pem")));
    const secure = `${uri}?tls-certificates=${trust}`;
    expect(await succeed("nbdinfo", [secure])).toContain("TLS");
    const image = sampleImage();
    await succeed("nbdcopy", ["--connections=4", image, secure]);
    const copy = join(scratchDirectory(), "copy");
    await succeed("nbdcopy", ["--connections=4", secure, copy]);
    expect(readFileSync(copy).equals(readFileSync(image))).toBe(true);
    expect((await command("nbdinfo", [uri.replace("nbds:", "nbd:")])).stderr).not.toBe("");
  });

  test("QEMU's tools convert, map and compare", async () => {
    const directory = await certificates();
    const { port } = await serveCertified(directory);
    const image = sampleImage();
    const tls = ["--object", `tls-creds-x509,id=t,dir=${directory},endpoint=client`];
    const target = `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`;
    await succeed("qemu-img", ["convert", "-n", ...tls, image, "--target-image-opts", target]);
    const opened = [...tls, "--image-opts"];
    expect(JSON.parse(await succeed("qemu-img", ["map", "--output=json", ...opened, target]))).not.toEqual(
      [],
    );
    const compared = [...opened, target, `driver=raw,file.driver=file,file.filename=${image}`];
    expect(await succeed("qemu-img", ["compare", ...compared])).toContain("identical");
  });

  test("a client without a certificate is turned away where one is demanded", async () => {
    const directory = await certificates();
    const { uri } = await serveCertified(directory, "--tls-ca", join(directory, "ca-cert.pem"));
    const trust = scratchDirectory();
    writeFileSync(join(trust, "ca-cert.pem"), readFileSync(join(directory, "ca-cert.pem")));
    expect((await command("nbdinfo", [`${uri}?tls-certificates=${trust}`])).status).not.toBe(0);
    await succeed("nbdinfo", [`${uri}?tls-certificates=${directory}`]);
  });
});

describeWith(["nbdinfo", "nbdcopy"], "pre-shared keys", () => {
  test("let in who knows one, and nobody else", async () => {
    const keys = join(scratchDirectory(), "keys.psk");
    writeFileSync(keys, "alice:00112233445566778899aabbccddeeff\n");
    const wrong = join(scratchDirectory(), "keys.psk");
    writeFileSync(wrong, "alice:ffeeddccbbaa99887766554433221100\n");
    const server = await serve(["instant", "--size", "16M", "--tls-psk", keys]);
    const as = (file: string) => `nbds+unix://alice@/?socket=${server.socketPath}&tls-psk-file=${file}`;
    expect(await succeed("nbdinfo", [as(keys)])).toContain("TLS");
    expect((await command("nbdinfo", [as(wrong)])).status).not.toBe(0);
    const image = sampleImage();
    await succeed("nbdcopy", [image, as(keys)]);
    const copy = join(scratchDirectory(), "copy");
    await succeed("nbdcopy", [as(keys), copy]);
    expect(readFileSync(copy).equals(readFileSync(image))).toBe(true);
  });
});

test("TLS that is asked for and cannot be had is one line that says why", async () => {
  for (const args of [
    ["--listen", "nbds://localhost:0/"],
    ["--tls", "require"],
    ["--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.pem"],
  ]) {
    const { status, stderr } = await blkforge(["serve", "instant", ...args]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^blkforge: BLK_E_(TLS|NBD_URI) {2}.*(--tls-cert|cannot be read)/);
  }
});
