/** Certificates for TLS between a server and real clients, made by openssl. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { scratchDirectory, succeed } from "./blkforge.js";

/** An authority, a server's certificate for localhost, and a client's, under the names GnuTLS clients look for. */
export async function certificates(): Promise<string> {
  const directory = scratchDirectory();
  const at = (name: string) => join(directory, name);
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await succeed("openssl", [
    ...["req", "-x509", ...newKey, "-subj", "/CN=test authority", "-days", "2"],
    ...["-keyout", at("ca-key.pem"), "-out", at("ca-cert.pem")],
  ]);
  for (const [name, subject, usage] of [
    ["server", "localhost", "serverAuth"],
    ["client", "client", "clientAuth"],
  ]) {
    const request = at(`${name}.csr`);
    await succeed("openssl", [
      ...["req", ...newKey, "-subj", `/CN=${subject}`, "-keyout", at(`${name}-key.pem`), "-out", request],
    ]);
    writeFileSync(at(`${name}.ext`), `subjectAltName=DNS:${subject}\nextendedKeyUsage=${usage}\n`);
    await succeed("openssl", [
      ...["x509", "-req", "-in", request, "-days", "2", "-CA", at("ca-cert.pem"), "-CAkey", at("ca-key.pem")],
      ...["-CAcreateserial", "-extfile", at(`${name}.ext`), "-out", at(`${name}-cert.pem`)],
    ]);
  }
  return directory;
}
