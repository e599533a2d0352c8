// SPDX-License-Identifier: BSD-2-Clause
// Tables with aligned columns.

import type { Output } from "../context.ts";
import { PLAIN, type Style, textWidth } from "./style.ts";

export interface Column {
  title: string;
  /** Numbers to the right; the left unless given. */
  align?: "left" | "right";
}

/** Lines of text, each ended by a newline; columns are two spaces apart. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  style: Style = PLAIN,
): string {
  const widths = columns.map((column, i) =>
    Math.max(textWidth(column.title), ...rows.map((row) => textWidth(row[i] ?? "")))
  );
  const line = (cells: readonly string[], dress: (text: string) => string) =>
    columns.map(({ align }, i) => {
      const cell = cells[i] ?? "";
      const padding = " ".repeat(widths[i]! - textWidth(cell));
      return align === "right" ? padding + dress(cell) : dress(cell) + padding;
    }).join("  ").trimEnd();
  const titled = columns.some((column) => column.title !== "");
  const head = titled ? [line(columns.map((column) => column.title), style.bold)] : [];
  return [...head, ...rows.map((row) => line(row, (text) => text))].map((text) => `${text}\n`).join("");
}

/** Names and values under each other. */
export function facts(
  pairs: readonly (readonly [name: string, value: string])[],
  style: Style = PLAIN,
): string {
  return table([{ title: "" }, { title: "" }], pairs.map(([name, value]) => [style.dim(name), value]));
}

/** A table, or, where the terminal is too narrow for one, each row as names and values. */
export function fittingTable(columns: readonly Column[], rows: readonly string[][], out: Output): string {
  const text = table(columns, rows, out.style);
  const width = Math.max(...text.split("\n").map(textWidth));
  if (!out.isTerminal || width <= out.columns) return text;
  return rows.map((row) =>
    facts(
      columns.map(({ title }, i) => [title, row[i] ?? ""] as const).filter(([, value]) => value !== ""),
      out.style,
    )
  ).join("\n");
}
