/** What is going on, on stderr: one line that is rewritten on a terminal, a line per change elsewhere. */
export class Progress {
  private readonly isTerminal = process.stderr.isTTY === true;
  private last = "";

  show(text: string): void {
    if (text === this.last) return;
    this.last = text;
    process.stderr.write(this.isTerminal ? `\r\x1b[K${text} ...` : `${text} ...\n`);
  }

  /** Clears the line, so that results stand alone. */
  end(): void {
    if (this.isTerminal && this.last !== "") process.stderr.write("\r\x1b[K");
    this.last = "";
  }
}
