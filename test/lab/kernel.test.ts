import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { findDebianSource, renderSource } from "../../src/lab/apt.js";
import { compareReleases, newestOf, unpackedImage } from "../../src/lab/kernel.js";
import { parseLdd } from "../../src/lab/tools.js";

const packages = [
  "linux-image-6.1.0-50-cloud-amd64",
  "linux-image-6.1.0-9-cloud-amd64",
  "linux-image-6.12.9+deb12-cloud-amd64",
  "linux-image-6.12.90+deb12-cloud-amd64",
  "linux-image-6.12.90+deb12.1-cloud-amd64",
];

describe("choosing a kernel", () => {
  test("the newest of a series, by number and not by letter", () => {
    expect(newestOf(packages, "6.12")).toBe("linux-image-6.12.90+deb12.1-cloud-amd64");
    expect(newestOf(packages, "6.1")).toBe("linux-image-6.1.0-50-cloud-amd64");
    expect(newestOf(packages, "6.12.9")).toBe("linux-image-6.12.9+deb12-cloud-amd64");
    expect(newestOf(packages, "7.0")).toBeUndefined();
    expect(newestOf(packages)).toBe("linux-image-6.12.90+deb12.1-cloud-amd64");
  });

  test("a shorter release comes before a longer one that begins alike", () => {
    expect(compareReleases("6.12", "6.12.1")).toBeLessThan(0);
    expect(compareReleases("6.12.1", "6.9")).toBeGreaterThan(0);
  });
});

describe("the image of an unpacked package", () => {
  test.each(["boot/vmlinuz-6.12.95+deb12-cloud-amd64", "usr/lib/modules/7.2.11+deb13-cloud-amd64/vmlinuz"])(
    "is found at %s",
    (place) => {
      const folder = mkdtempSync(join(tmpdir(), "blkforge-kernel-"));
      try {
        expect(unpackedImage(folder)).toBeUndefined();
        const image = join(folder, place);
        mkdirSync(dirname(image), { recursive: true });
        writeFileSync(image, "");
        expect(unpackedImage(folder)).toBe(image);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );
});

describe("deriving sources from the machine's own", () => {
  const stanza = [
    "Types: deb",
    "# a comment",
    "URIs: http://mirror.invalid/debian",
    "Suites: bookworm bookworm-updates",
    "Components: main contrib",
    "Signed-By: /usr/share/keyrings/a.gpg",
  ].join("\n");
  const security = stanza
    .replaceAll("bookworm-updates", "x")
    .replace("Suites: bookworm x", "Suites: bookworm-security");

  test("an entry of the newer format keeps its mirror and its key", () => {
    const file = { name: "debian.sources", text: `${security}\n\n${stanza}\n` };
    const source = findDebianSource([file], "bookworm");
    expect(renderSource(source!, ["bookworm", "bookworm-backports"])).toBe(
      [
        "Types: deb",
        "Suites: bookworm bookworm-backports",
        "Components: main",
        "URIs: http://mirror.invalid/debian",
        "Signed-By: /usr/share/keyrings/a.gpg",
        "",
      ].join("\n"),
    );
  });

  test("an entry of the one-line format keeps its options", () => {
    const text =
      "# deb http://no.invalid bookworm main\ndeb [signed-by=/k.gpg] http://m.invalid/d bookworm main\n";
    const source = findDebianSource([{ name: "sources.list", text }], "bookworm");
    expect(renderSource(source!, ["bookworm"])).toBe(
      "deb [signed-by=/k.gpg] http://m.invalid/d bookworm main\n",
    );
  });

  test("an entry that is switched off, or another release's, does not count", () => {
    const off = { name: "debian.sources", text: `Enabled: no\n${stanza}` };
    expect(findDebianSource([off], "bookworm")).toBeUndefined();
    expect(findDebianSource([{ name: "debian.sources", text: stanza }], "trixie")).toBeUndefined();
  });
});

describe("libraries of a program", () => {
  test("are the paths ldd gives, the loader among them, each once", () => {
    const output = [
      "/usr/bin/a:",
      "\tlinux-vdso.so.1 (0x00007ffd)",
      "\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)",
      "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
      "/usr/bin/b:",
      "\tnot a dynamic executable",
      "\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)",
    ].join("\n");
    expect(parseLdd(output)).toEqual(["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]);
  });
});
