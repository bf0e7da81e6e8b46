// Tables, as tables.
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export interface Column<Row> {
  head: string;
  cell: (row: Row) => ComponentChildren;
  /** Numbers are set at the right, under each other. */
  number?: boolean;
}

/** Rows under a caption. The first column names its row. A table that is wider than the window is moved in its own frame;
 * in a narrow window each row of one with many columns is a card. The roles say what the elements are when they look so. */
export function Table<Row>(props: {
  caption: string; columns: ReadonlyArray<Column<Row>>; rows: readonly Row[]; id: (row: Row) => string; hideCaption?: boolean;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const wide = useOverflow(frame);
  // What can be moved can be moved by keyboard; what cannot is no stop on the way.
  const moved = wide ? ({ tabIndex: 0, role: "region", "aria-label": `${props.caption}, as wide as it is` } as const) : {};
  return (
    <div class="table-frame" ref={frame} {...moved}>
      <table class={props.columns.length > 3 ? "wide" : ""} role="table">
        <caption class={props.hideCaption === false ? "" : "unseen"}>{props.caption}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {props.columns.map((column) => (
              <th key={column.head} scope="col" role="columnheader" class={column.number ? "number" : ""}>{column.head}</th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {props.rows.map((row) => (
            <tr key={props.id(row)} role="row">
              {props.columns.map((column, place) => {
                const style = column.number ? "number" : "";
                const inside = column.cell(row);
                return place === 0
                  ? <th key={column.head} scope="row" role="rowheader" class={style}>{inside}</th>
                  : <td key={column.head} role="cell" class={style} data-head={column.head}><div class="cell">{inside}</div></td>;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Whether what is in a frame is larger than it. */
function useOverflow(frame: RefObject<HTMLElement | null>): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const element = frame.current;
    if (element === null) return undefined;
    const measure = () => setOver(element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1);
    const sized = new ResizeObserver(measure);
    sized.observe(element);
    if (element.firstElementChild) sized.observe(element.firstElementChild);
    return () => sized.disconnect();
  }, []);
  return over;
}

/** Takes up the next page of a list. */
export function More(props: { there: boolean; onMore: () => void; busy?: boolean }) {
  if (!props.there) return null;
  return <button type="button" class="more" disabled={props.busy ?? false} onClick={props.onMore}>More</button>;
}
