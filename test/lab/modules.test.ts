import { describe, expect, test } from "vitest";
import { closure, moduleEntries, readModuleInfo } from "../../src/lab/modules.js";

const tree: Record<string, string[]> = {
  xfs: ["libcrc32c"],
  libcrc32c: [],
  scsi_debug: ["scsi_mod", "scsi_common"],
  scsi_mod: ["scsi_common"],
  scsi_common: ["builtin"],
  left: ["right"],
  right: ["left"],
};

async function order(names: string[]): Promise<string[]> {
  const found = await closure(names, async (name) =>
    name in tree ? { name, depends: tree[name] } : undefined,
  );
  return found.map(({ name }) => name);
}

describe("the modules for a guest", () => {
  test("each comes after everything it depends on, once", async () => {
    expect(await order(["scsi_debug", "xfs", "scsi_mod"])).toEqual([
      "scsi_common",
      "scsi_mod",
      "scsi_debug",
      "libcrc32c",
      "xfs",
    ]);
  });

  test("what the kernel has built in is left out, and a circle ends", async () => {
    expect(await order(["builtin"])).toEqual([]);
    expect((await order(["left"])).sort()).toEqual(["left", "right"]);
  });

  test("modules.dep names all a module needs, the first to load last", () => {
    const module = (name: string, depends: string[]) => ({
      name,
      depends,
      aliases: [],
      content: Buffer.alloc(1),
    });
    const entries = moduleEntries("6.12.1", [
      module("scsi_common", []),
      module("scsi_mod", ["scsi_common"]),
      { ...module("scsi_debug", ["scsi_mod", "scsi_common"]), aliases: ["an-alias"] },
    ]);
    const read = (path: string): string => {
      const entry = entries.find((candidate) => candidate.path === `usr/lib/modules/6.12.1/${path}`);
      return entry?.kind === "file" ? Buffer.from(entry.content).toString() : "";
    };
    expect(read("modules.dep")).toBe(
      "scsi_common.ko:\nscsi_mod.ko: scsi_common.ko\nscsi_debug.ko: scsi_mod.ko scsi_common.ko\n",
    );
    expect(read("modules.alias")).toBe("alias an-alias scsi_debug\n");
  });

  test("what a module says of itself is read from its .modinfo section", () => {
    const info = readModuleInfo(elfWith(".modinfo", "license=GPL\0depends=a,b-c\0alias=x\0alias=y\0"));
    expect(info.get("depends")).toEqual(["a,b-c"]);
    expect(info.get("alias")).toEqual(["x", "y"]);
  });

  test("an object without the section, or no object at all, says nothing", () => {
    expect(readModuleInfo(elfWith(".text", "depends=a\0")).size).toBe(0);
    expect(readModuleInfo(Buffer.from("not an object")).size).toBe(0);
  });
});

/** A minimal ELF64 object with one section besides the table of names. */
function elfWith(name: string, content: string): Buffer {
  const names = Buffer.from(`\0.shstrtab\0${name}\0`);
  const body = Buffer.from(content);
  const headersAt = 64 + names.length + body.length;
  const elf = Buffer.alloc(headersAt + 3 * 64);
  elf.writeUInt32BE(0x7f454c46, 0);
  elf.writeBigUInt64LE(BigInt(headersAt), 0x28);
  elf.writeUInt16LE(64, 0x3a);
  elf.writeUInt16LE(3, 0x3c);
  elf.writeUInt16LE(1, 0x3e);
  names.copy(elf, 64);
  body.copy(elf, 64 + names.length);
  const section = (index: number, nameAt: number, offset: number, length: number): void => {
    elf.writeUInt32LE(nameAt, headersAt + index * 64);
    elf.writeBigUInt64LE(BigInt(offset), headersAt + index * 64 + 0x18);
    elf.writeBigUInt64LE(BigInt(length), headersAt + index * 64 + 0x20);
  };
  section(1, 1, 64, names.length);
  section(2, 11, 64 + names.length, body.length);
  return elf;
}
