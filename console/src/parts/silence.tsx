// A silence is made: of what, for how long, and why.
import { useState } from "preact/hooks";
import { requestId, send, withQuery } from "../api/client.ts";
import { ApiError } from "../api/errors.ts";
import type { Silence } from "../api/types.ts";
import { LENGTHS, problem, silenceOf } from "../format/silences.ts";
import { Confirm } from "./dialog.tsx";

/** `rules` and `models`: what can be chosen; the first of each is chosen. An empty one stands for all. */
export function SilenceDialog(props: {
  rules: readonly string[]; models: readonly string[]; onDone: (made: Silence) => void; onClose: () => void;
}) {
  const [rule, setRule] = useState(props.rules[0] ?? "");
  const [model, setModel] = useState(props.models[0] ?? "");
  const [lengthS, setLength] = useState("14400");
  // The same wish sent again, after an answer that was lost, is one silence.
  const [id] = useState(requestId);
  return (
    <Confirm title="Silence alerts" action="Silence" reason="Why, for the others" onClose={props.onClose}
      onDo={async (reason) => {
        const wrong = problem({ rule, model });
        if (wrong !== "") throw new ApiError(400, wrong);
        const body = silenceOf({ rule, model, lengthS: Number(lengthS), reason }, Date.now());
        props.onDone(await send<Silence>("POST", withQuery("/v1/silences", { request_id: id }), body));
      }}>
      <p>While it lasts nobody is told of alerts that it covers. They are still shown here.</p>
      <Select label="Rule" options={props.rules.map((one) => [one, one || "every rule"])} value={rule} onChange={setRule} />
      <Select label="Model" options={props.models.map((one) => [one, one || "every model"])} value={model} onChange={setModel} />
      <Select label="For" options={LENGTHS} value={lengthS} onChange={setLength} />
    </Confirm>
  );
}

/** One of many, under its name. */
export function Select(props: {
  label: string; options: ReadonlyArray<readonly [string, string]>; value: string; onChange: (value: string) => void;
}) {
  return (
    <label class="field">{props.label}
      <select value={props.value} onChange={(event) => props.onChange(event.currentTarget.value)}>
        {props.options.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
      </select>
    </label>
  );
}
