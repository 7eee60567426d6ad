/** What attach, detach and resize refuse before they touch anything. */
import { afterEach, expect, test, vi } from "vitest";
import { main } from "../../src/cli/main.js";

afterEach(() => vi.restoreAllMocks());

async function run(...args: string[]) {
  let said = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    said += String(text);
    return true;
  });
  return { status: await main(args), said: () => said };
}

test.each([
  [["attach", "instant", "--connections", "0"], "--connections 0 is not possible"],
  [["attach", "instant", "--connections", "17"], "Give 1 to 16"],
  [["attach", "instant", "--block-size", "1000"], "Give 512, 1024, 2048 or 4096"],
  [["attach", "instant", "--timeout", "9999999"], "too long"],
  [["attach", "instant", "--timeout", "1.5"], "Give a whole number"],
  [["attach", "instant", "--nbd", "/dev/sda"], '"/dev/sda" is no NBD device'],
  [["attach", "instant", "--read-ahead", "much"], '"much" is not a size'],
  [["attach", "instant", "--ublk", "--batch", "on", "--depth", "1"], "no batches of one request"],
  [["attach", "instant", "--ublk", "--batch", "yes"], "Allowed choices are on, off, auto"],
  [["attach", "no-such-profile"], "BLK_E_PROFILE_UNKNOWN"],
  [["detach", "nbd"], "Give /dev/nbd0"],
  [["resize", "2G"], "no API address is given"],
  [["doctor", "--for", "everything"], "Allowed choices are serve, attach"],
])("%j exits 2 and says why", async (args, words) => {
  const { status, said } = await run(...args);
  expect(said()).toContain(words);
  expect(status).toBe(2);
});
