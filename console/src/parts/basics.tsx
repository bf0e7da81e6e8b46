// Small pieces that all pages are made of.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ApiError } from "../api/errors.ts";
import { exact, relative } from "../format/times.ts";

/** A part of a page under a heading of its own. */
export function Section(props: { title: string; side?: ComponentChildren; children: ComponentChildren }) {
  const id = `part-${props.title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return (
    <section class="section" aria-labelledby={id}>
      <div class="section-head">
        <h2 id={id}>{props.title}</h2>
        {props.side}
      </div>
      {props.children}
    </section>
  );
}

/** An error as the API said it, with what to do next. */
export function Failure(props: { error: ApiError | undefined; what?: string }) {
  if (props.error === undefined) return null;
  const { message, nextStep, violations, reason } = props.error;
  return (
    <div class="notice bad" role="alert">
      <p>
        {props.what ? <strong>{props.what}: </strong> : null}
        {message}
        {reason ? <> <code>{reason}</code></> : null}
      </p>
      {violations.length > 0 ? (
        <ul>{violations.map((one) => <li key={one.field}><code>{one.field}</code>: {one.description}</li>)}</ul>
      ) : null}
      {nextStep ? <p class="next">{nextStep}</p> : null}
    </div>
  );
}

/** That there is nothing, and how to begin. */
export function Empty(props: { children: ComponentChildren; command?: string }) {
  return (
    <div class="notice">
      <p>{props.children}</p>
      {props.command ? <pre tabIndex={0} aria-label="Command to begin with"><code>{props.command}</code></pre> : null}
    </div>
  );
}

/** That something is being read for the first time. */
export function Reading() {
  return <p class="quiet" role="status">Reading…</p>;
}

const TONES: Readonly<Record<string, string>> = {
  active: "good", healthy: "good", completed: "good", passing: "good", promoted: "good", better: "good", resolved: "good",
  passed: "good", up: "good", winner: "good", none: "good", high: "bad", moderate: "warn", silenced: "warn", superseded: "warn",
  failed: "bad", unhealthy: "bad", breached: "bad", rolled_back: "bad", critical: "bad", worse: "bad", down: "bad",
  firing: "bad", not_enough_data: "bad",
  warning: "warn", degraded: "warn", deprecated: "warn", paused: "warn", waiting: "warn", acknowledged: "warn",
  aborted: "warn", cancelled: "warn", stopped: "warn", inconclusive: "warn", behind: "warn",
  running: "busy", deploying: "busy", pending: "busy", terminating: "busy", info: "busy",
};

/** A word of the API as a badge. What it means is in the word; its colour says it once more. */
export function Badge(props: { word: string; tone?: string }) {
  return <span class={`badge ${props.tone ?? TONES[props.word] ?? ""}`}>{props.word.replaceAll("_", " ")}</span>;
}

/** A moment as one says it, with the exact one on hover and for screen readers. */
export function Moment(props: { at: string | undefined }) {
  const now = useNow();
  if (!props.at) return <span class="quiet">–</span>;
  return <time dateTime={props.at} title={exact(props.at)}>{relative(props.at, now)}</time>;
}

let clock = 0;
const ticking = new Set<() => void>();

/** The time, anew every few seconds; one clock for the whole page. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const tick = () => setNow(Date.now());
    ticking.add(tick);
    if (ticking.size === 1) clock = window.setInterval(() => ticking.forEach((one) => one()), 5000);
    return () => {
      ticking.delete(tick);
      if (ticking.size === 0) window.clearInterval(clock);
    };
  }, []);
  return now;
}

/** Names and values in two columns. What has no value is left out. */
export function Facts(props: { facts: ReadonlyArray<readonly [string, ComponentChildren]> }) {
  const said = props.facts.filter(([, value]) => value !== undefined && value !== "" && value !== null);
  return <dl class="facts">{said.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>;
}

/** One figure, large. */
export function Figure(props: { name: string; value: ComponentChildren; tone?: string; note?: ComponentChildren }) {
  return (
    <div class={`figure ${props.tone ?? ""}`}>
      <div class="figure-name">{props.name}</div>
      <div class="figure-value">{props.value}</div>
      {props.note ? <div class="figure-note">{props.note}</div> : null}
    </div>
  );
}

/** A share, 0 to 100, drawn beside its number. */
export function Bar(props: { percent: number; text: string; tone?: string }) {
  const width = `${Math.max(0, Math.min(100, props.percent))}%`;
  return (
    <div class="bar">
      <span class="bar-text">{props.text}</span>
      <span class="bar-track" aria-hidden="true"><span class={`bar-fill ${props.tone ?? ""}`} style={{ width }} /></span>
    </div>
  );
}

/** One of a few, as radio buttons in a row. */
export function Choice(props: {
  label: string; options: ReadonlyArray<readonly [string, string]>; value: string; onChange: (value: string) => void;
}) {
  return (
    <fieldset class="choice">
      <legend>{props.label}</legend>
      {props.options.map(([value, text]) => (
        <label key={value} class={value === props.value ? "chosen" : ""}>
          <input type="radio" name={props.label} value={value} checked={value === props.value}
            onChange={() => props.onChange(value)} />
          {text}
        </label>
      ))}
    </fieldset>
  );
}
