/**
 * What one client may cost the server: every queue, buffer and wait of the NBD server has its bound here.
 */

export interface NbdLimits {
  /** Clients at once, all addresses together; further ones are closed at once. qemu-nbd allows 100. */
  connections: number;
  /** From accept to GO. qemu's limit, set after CVE-2024-7409. */
  handshakeMs: number;
  /** Options in one handshake. nbdkit's limit. */
  options: number;
  /** Data of one option: room for the longest sensible list of metadata contexts. */
  optionBytes: number;
  /** Requests one connection may have in flight; then its socket is not read. The Linux client has 128 per connection. */
  requestsPerConnection: number;
  /** Replies of one connection that its socket has not taken yet; a single larger reply may pass when nothing else waits. */
  queuedReplyBytes: number;
  /** A refused write up to this size is drained and answered, a larger one closes the connection. nbdkit's limit. */
  drainedWriteBytes: number;
  /** All payload buffers together, both directions. Connections wait for each other beyond it. */
  payloadBytes: number;
  /** How often clients whose sockets are not read are looked after: reading is what tells of an end otherwise. */
  vanishMs: number;
  /**
   * A client that has not moved a byte so long is closed when it is in the way of others, by the memory or by the places in
   * the request table it holds, or when it has closed its side and cannot be read.
   */
  stallMs: number;
  /** A TCP connection this quiet is asked whether its client is still there. */
  keepAliveMs: number;
  /** Between our last byte and the client closing its side, when we end a connection. */
  lingerMs: number;
}

export const defaultLimits: NbdLimits = Object.freeze({
  connections: 1024,
  handshakeMs: 10_000,
  options: 32,
  optionBytes: 64 * 1024,
  requestsPerConnection: 1024,
  queuedReplyBytes: 8 * 1024 * 1024,
  drainedWriteBytes: 128 * 1024 * 1024,
  payloadBytes: 512 * 1024 * 1024,
  vanishMs: 1_000,
  stallMs: 30_000,
  keepAliveMs: 30_000,
  lingerMs: 1_000,
});
