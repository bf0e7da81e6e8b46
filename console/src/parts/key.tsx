// The API key: typed in here, kept for this tab.
import { useState } from "preact/hooks";
import { key, useThisKey } from "../api/session.ts";
import { Dialog } from "./dialog.tsx";

export function KeyDialog(props: { onClose: () => void }) {
  const [typed, setTyped] = useState("");
  const has = key.get() !== "";
  const use = (value: string) => {
    useThisKey(value);
    props.onClose();
  };
  return (
    <Dialog title="API key" onClose={props.onClose}>
      <form onSubmit={(event) => { event.preventDefault(); use(typed); }} autoComplete="off">
        <p>
          Every call to the API shows this key. It is kept in this tab until that is closed, and nowhere else.
          {has ? " A key is in use now." : " No key is in use now."}
        </p>
        <label class="field">Key
          <input type="password" autoComplete="off" spellcheck={false} autoFocus value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)} />
        </label>
        <div class="buttons">
          <button type="submit" class="primary" disabled={typed.trim() === ""}>Use this key</button>
          {has ? <button type="button" onClick={() => use("")}>Forget the key</button> : null}
          <button type="button" onClick={props.onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}
