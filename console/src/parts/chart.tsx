// Lines over time, drawn by uPlot, with the same figures as a table for whoever cannot see them or wants to copy them.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clockTime, dayOf } from "../format/times.ts";
import { Table } from "./table.tsx";

export interface Series {
  name: string;
  /** One value for each time; null: there is none. */
  values: ReadonlyArray<number | null>;
}

const HEIGHT = 180;
const COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4"];
/** Lines are told apart by their dashes too. */
const DASHES: number[][] = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const DAY_S = 86_400;

/** `times`: seconds since 1970, ascending. `said`: how a value is read, with its unit. `least`: how far the axis goes at the
 * least, so that nothing looks like much. */
export function Chart(props: {
  title: string; times: readonly number[]; series: readonly Series[]; said: (value: number | undefined) => string;
  least: number;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  const scheme = useScheme();
  const { title, times, series, said, least } = props;
  const summary = useMemo(() => summarised(title, series, said), [title, series, said]);
  const names = series.map((one) => one.name).join("\n");

  const plot = useRef<uPlot | undefined>(undefined);
  useEffect(() => {
    const element = frame.current;
    if (element === null) return undefined;
    const made = new uPlot(options(element, series, said, least), data(times, series), element);
    plot.current = made;
    const sized = new ResizeObserver(() => {
      if (element.clientWidth > 0 && element.clientWidth !== made.width) made.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    sized.observe(element);
    return () => {
      sized.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [scheme, names, said, least]);
  useEffect(() => plot.current?.setData(data(times, series)), [times, series]);

  const withDay = (times.at(-1) ?? 0) - (times[0] ?? 0) > DAY_S;
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        {series.length > 1 ? (
          <span class="legend" aria-hidden="true">
            {series.map((one, place) => <span key={one.name} class={`key line-${place + 1}`}>{one.name}</span>)}
          </span>
        ) : null}
      </figcaption>
      <div ref={frame} class="plot" role="img" aria-label={summary} />
      <details onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>As a table<span class="unseen">: {title}</span></summary>
        {open ? (
          <Table caption={title} id={(time) => String(time)} rows={[...times].reverse()} columns={[
            { head: "Time", cell: (time) => clockTime(time, withDay) },
            ...series.map((one) => ({
              head: one.name, number: true, cell: (time: number) => said(one.values[times.indexOf(time)] ?? undefined),
            })),
          ]} />
        ) : null}
      </details>
    </figure>
  );
}

function data(times: readonly number[], series: readonly Series[]): uPlot.AlignedData {
  return [[...times], ...series.map((one) => [...one.values])];
}

function options(
  element: HTMLElement, series: readonly Series[], said: (value: number | undefined) => string, least: number,
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--edge"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width: Math.max(200, element.clientWidth),
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { y: { range: (_, _low, high) => [0, Math.max(least, (high ?? 0) * 1.1)] } },
    axes: [
      { ...axis, size: 28, values: (_, splits) => splits.map((split) => axisTime(split, splits)), space: (_plot, _axis, from, to) => (to - from > DAY_S ? 95 : 55) },
      { ...axis, size: 72, values: (_, splits) => splits.map((split) => said(split)) },
    ],
    series: [
      {},
      ...series.map((one, place) => ({
        label: one.name,
        stroke: colour(COLOURS[place % COLOURS.length] ?? "--line-1"),
        dash: DASHES[place % DASHES.length] ?? [],
        width: 2,
        // A line needs two; what is alone would not be seen.
        points: { size: 5, show: true, filter: () => alone(one.values) },
      })),
    ],
  };
}

/** The time of day; the day where the axis has several, both where they are not whole days apart. */
function axisTime(at: number, splits: readonly number[]): string {
  const [first = 0, second = 0] = splits;
  if ((splits.at(-1) ?? 0) - first < DAY_S) return clockTime(at, false);
  return second - first < DAY_S ? clockTime(at, true) : dayOf(at);
}

/** The places of values that have none beside them. */
function alone(values: ReadonlyArray<number | null>): number[] {
  return values.flatMap((value, place) =>
    value !== null && (values[place - 1] ?? null) === null && (values[place + 1] ?? null) === null ? [place] : []);
}

function summarised(title: string, series: readonly Series[], said: (value: number | undefined) => string): string {
  const lines = series.map((one) => {
    const there = one.values.filter((value) => value !== null);
    if (there.length === 0) return `${one.name}: nothing measured`;
    return `${one.name}: last ${said(there.at(-1))}, from ${said(Math.min(...there))} to ${said(Math.max(...there))}`;
  });
  return `Chart of ${title}. ${lines.join(". ")}.`;
}

/** "light" or "dark", anew when the reader's choice changes. */
function useScheme(): string {
  const [dark, setDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setDark(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return dark ? "dark" : "light";
}
