// SPDX-License-Identifier: BSD-2-Clause
// The part of asciichart that chart.ts uses; the package brings no types.

declare const asciichart: {
  plot(series: readonly number[], options?: { height?: number }): string;
};
export default asciichart;
