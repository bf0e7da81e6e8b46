// Shares by name, as a table whose numbers are drawn too.
import { percent } from "../format/numbers.ts";
import { Bar } from "./basics.tsx";
import { Table } from "./table.tsx";

const SHOWN_MAX = 20;

export function Distribution(props: { title: string; head: string; shares: Readonly<Record<string, number>>; order?: readonly string[] }) {
  const { order } = props;
  const named = Object.entries(props.shares);
  if (named.length === 0) return null;
  const sorted = named.sort(([one, a], [other, b]) =>
    order ? order.indexOf(one) - order.indexOf(other) : b - a || one.localeCompare(other, "en", { numeric: true }));
  return (
    <div class="distribution">
      <h3>{props.title}</h3>
      <Table caption={props.title} rows={sorted.slice(0, SHOWN_MAX)} id={([name]) => name} columns={[
        { head: props.head, cell: ([name]) => name },
        { head: "Share", cell: ([, share]) => <Bar percent={share * 100} text={percent(share)} /> },
      ]} />
      {sorted.length > SHOWN_MAX ? <p class="quiet">{sorted.length - SHOWN_MAX} more are not shown.</p> : null}
    </div>
  );
}
