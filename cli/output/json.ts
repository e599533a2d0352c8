// SPDX-License-Identifier: BSD-2-Clause
// Results for programs: documents that name their schema.

// JSON has no limit on integers, so counters are written in full.
const rawJson = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON;

function replacer(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? rawJson(String(value)) : value;
}

/**
 * One JSON document, with a newline.
 * @param schema "rackwire.<what>/<version>"; the version changes when a key's meaning does
 */
export function jsonDocument(schema: string, fields: object): string {
  return `${JSON.stringify({ schema, ...fields }, replacer, 2)}\n`;
}

/** One line of a stream of documents (NDJSON). */
export function jsonLine(schema: string, fields: object): string {
  return `${JSON.stringify({ schema, ...fields }, replacer)}\n`;
}
