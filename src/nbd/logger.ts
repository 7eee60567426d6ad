/** What the server writes its log to; a pino logger fits. */
export interface NbdLogger {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export const silentLogger: NbdLogger = { debug: () => undefined, warn: () => undefined };
