// What a change of shares does, as a table.
import { lines, type Shares } from "../traffic/shares.ts";
import { Table } from "./table.tsx";

/** Shares before and after, one line a version. */
export function PlanTable(props: { caption: string; before: Shares; after: Shares }) {
  return (
    <Table caption={props.caption} rows={lines(props.before, props.after)} id={(line) => line.version} columns={[
      { head: "Version", cell: (line) => line.version },
      { head: "Now", number: true, cell: (line) => `${line.before}\u202f%` },
      { head: "Then", number: true, cell: (line) => `${line.after}\u202f%` },
      { head: "Change", number: true, cell: (line) => (line.difference === 0 ? "–" : `${line.difference > 0 ? "+" : "−"}${Math.abs(line.difference)}\u202f%`) },
    ]} />
  );
}
