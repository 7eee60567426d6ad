/**
 * hang: requests never complete, until they are released.
 *
 * The device and its model go on as ever: a held write has reached the device, and others see its bytes. Only the
 * completion is kept back. Releasing lets everything go that is held now; the fault stays set and holds what comes
 * next. Removing the fault and resetting the device release too. A released request completes as it would have,
 * at its own time or at the release, whichever is later.
 *
 * Held requests keep their places in the request table: when it is full the transports stop reading, as a hung drive's
 * queue is full. `times` bounds how many are held.
 *
 * Host sees    nothing at all. The kernel's NBD client without a timeout waits for ever and logs "Possible stuck
 *              request" every 30 s; with one it sends the request again on another connection or fails it with EIO
 *              (`nbd_xmit_timeout` in `drivers/block/nbd.c`), so a held write may be executed twice. Over ublk nothing
 *              happens, however long (`ublk_timeout` in `drivers/block/ublk_drv.c`), unless the device is unprivileged.
 */
import { operations } from "../base/request.js";
import { defineFault } from "./define.js";
import { strictFields } from "./schema.js";

const stuck = {
  "nbd-kernel": "no answer until released; with a timeout set (nbd-client -t) sent again or EIO",
  "nbd-user": "no answer until released",
  ublk: "no answer until released: the driver resets its timer as long as the server lives",
};

export const hang = defineFault({
  name: "hang",
  summary: "holds requests until they are released",
  ops: operations,
  options: strictFields({}),
  prepare: () => null,
  holds: true,
  hostView: () => stuck,
  hostViewInGeneral: stuck,
});
