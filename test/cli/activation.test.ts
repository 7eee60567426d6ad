import { expect, test } from "vitest";
import { inheritedAddresses } from "../../src/cli/activation.js";

test("sockets meant for this process are taken, from descriptor 3 on", () => {
  expect(inheritedAddresses({ LISTEN_PID: "42", LISTEN_FDS: "2" }, 42)).toEqual(["fd:3", "fd:4"]);
});

test.each([
  {},
  { LISTEN_PID: "41", LISTEN_FDS: "1" },
  { LISTEN_PID: "42" },
  { LISTEN_PID: "42", LISTEN_FDS: "x" },
])("what is meant for others, or says nothing, is left alone: %o", (environment) => {
  expect(inheritedAddresses(environment, 42)).toEqual([]);
});
