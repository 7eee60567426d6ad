/** The watchdog's own process; see watchdog.ts. Says "watching", and waits for a word or the end of its input. */
import { text } from "node:stream/consumers";
import { devicePath } from "./block-device.js";
import { NbdDriver } from "./nbd-driver.js";

const index = Number(process.argv[2]);
// Whoever stops the server, a service manager say, may tell all its processes; this one goes after it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});

const driver = await NbdDriver.open();
process.stdout.write("watching\n");
if ((await text(process.stdin)) === "") {
  process.stderr.write(
    `blkforge: the server of ${devicePath(index)} has died; its requests in flight fail now\n`,
  );
  await driver.disconnect(index);
}
driver.close();
