// An interval and a limit, on one line.
import { known } from "../format/criteria.ts";

/** Where `low` to `high` lies beside `limit`; what was measured is the dot. The numbers are said beside it. */
export function Interval(props: { low: number; high: number; measured?: number; limit: number; text: string }) {
  const { low, high, measured, limit } = props;
  if (!known(low) && !known(high)) return <span class="quiet">{props.text}</span>;
  const values = [low, high, limit, ...(measured === undefined ? [] : [measured])].filter(known);
  const [least, most] = [Math.min(0, ...values), Math.max(...values)];
  const span = most - least || 1;
  // An end that is not known is at the edge.
  const at = (value: number) => `${Math.max(0, Math.min(100, ((value - least) / span) * 100))}%`;
  return (
    <div class="interval">
      <span>{props.text}</span>
      <svg width="120" height="14" aria-hidden="true" class="interval-drawn">
        <line x1="0" x2="100%" y1="7" y2="7" class="interval-axis" />
        <line x1={at(low)} x2={at(high)} y1="7" y2="7" class="interval-span" />
        <line x1={at(limit)} x2={at(limit)} y1="0" y2="14" class="interval-limit" />
        {measured === undefined ? null : <circle cx={at(measured)} cy="7" r="3" class="interval-dot" />}
      </svg>
    </div>
  );
}
