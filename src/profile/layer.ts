/**
 * One YAML file of a profile: its text, its data, and where in the text each value stands.
 *
 * A profile that extends another is a chain of layers, its own file first.
 */
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument, visit } from "yaml";
import { BlkError, isSystemError } from "../base/errors.js";

export type Data = Record<string, unknown>;

export interface Layer {
  /** Absolute path of the file. */
  path: string;
  text: string;
  data: Data;
  document: Document;
  lines: LineCounter;
}

export function readLayer(path: string): Layer {
  const text = readText(path);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [error] = document.errors;
  if (error !== undefined) throw syntaxError(path, text, lines, error.message, error.pos[0]);
  let data: unknown;
  try {
    data = document.toJS();
  } catch (cause) {
    // Only references go wrong here: an alias without its anchor, or more of them than anyone writes by hand.
    const why = cause instanceof Error ? cause.message : String(cause);
    throw syntaxError(path, text, lines, why, firstAlias(document));
  }
  if (!isData(data)) {
    throw new BlkError(
      "BLK_E_PROFILE_INVALID",
      `${displayPath(path)} holds ${data === null ? "nothing" : "no mapping"}`,
      'A profile is a list of "key: value" lines, such as "model: fixed"',
    );
  }
  return { path, text, data, document, lines };
}

/** `file:line:column` of the value at `path`, or of the key `key` below it; undefined if this layer does not have it. */
export function positionOf(layer: Layer, path: readonly PropertyKey[], key?: string): string | undefined {
  let offset: number | undefined;
  if (key === undefined) {
    const node = layer.document.getIn(path, true);
    if (isNode(node)) offset = node.range?.[0];
  } else {
    const parent = path.length === 0 ? layer.document.contents : layer.document.getIn(path, true);
    const pair = isMap(parent)
      ? parent.items.find((item) => isScalar(item.key) && String(item.key.value) === key)
      : undefined;
    if (isNode(pair?.key)) offset = pair.key.range?.[0];
  }
  if (offset === undefined) return undefined;
  const { line, col } = layer.lines.linePos(offset);
  return `${displayPath(layer.path)}:${line}:${col}`;
}

/** A path as people know it: relative when it lies below the working directory. */
export function displayPath(path: string): string {
  const below = relative(process.cwd(), path);
  return below === "" || below.startsWith("..") ? path : below;
}

export function isData(value: unknown): value is Data {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const why = isSystemError(cause, "ENOENT")
      ? "there is no such file"
      : isSystemError(cause, "EISDIR")
        ? "it is a directory"
        : isSystemError(cause, "EACCES")
          ? "permission denied"
          : cause instanceof Error
            ? cause.message
            : String(cause);
    throw new BlkError(
      "BLK_E_PROFILE_UNREADABLE",
      `cannot read the profile ${displayPath(path)}: ${why}`,
      'Check the path; "blkforge profiles" lists the profiles known by name',
      { cause },
    );
  }
}

/** Where the first alias stands that has no anchor before it; failing that, the last alias. */
function firstAlias(document: Document): number {
  let offset = 0;
  visit(document, {
    Alias(_, alias) {
      offset = alias.range?.[0] ?? offset;
      return alias.resolve(document) === undefined ? visit.BREAK : undefined;
    },
  });
  return offset;
}

/** Longest part of a line an excerpt shows. */
const excerptColumns = 100;

function syntaxError(path: string, text: string, lines: LineCounter, why: string, offset: number): BlkError {
  const { line, col } = lines.linePos(offset);
  const start = Math.max(0, col - excerptColumns);
  const excerpt = (text.split(/\r?\n/)[line - 1] ?? "").slice(start, start + excerptColumns);
  const caret = `${" ".repeat(col - 1 - start)}^`;
  return new BlkError(
    "BLK_E_PROFILE_SYNTAX",
    `${displayPath(path)}:${line}:${col} is not YAML: ${why.replace(/[.\s]+$/, "")}`,
    `Correct this line:\n\n    ${excerpt.replaceAll("\t", " ")}\n    ${caret}`,
  );
}
