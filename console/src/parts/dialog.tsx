// A question that must be answered before the page goes on: the browser's own dialog, which Escape closes.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { asApiError } from "../api/watching.ts";
import type { ApiError } from "../api/errors.ts";
import { Failure } from "./basics.tsx";

/** Open while it is drawn. */
export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  // Before the next picture: keys that are pressed meanwhile belong to the dialog, or to what was before it.
  useLayoutEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog ref={element} aria-labelledby="dialog-title" onCancel={(event) => { event.preventDefault(); props.onClose(); }}>
      <h2 id="dialog-title">{props.title}</h2>
      {props.children}
    </dialog>
  );
}

/** Asks before something is done, with a reason for the history, and does it. Says what was wrong where it fails. */
export function Confirm(props: {
  title: string; action: string; danger?: boolean; reason?: string; children: ComponentChildren;
  onDo: (reason: string) => Promise<unknown>; onClose: () => void;
}) {
  const [reason, setReason] = useState("");
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const doIt = async () => {
    setBusy(true);
    setError(undefined);
    try {
      await props.onDo(reason);
      props.onClose();
    } catch (failed) {
      setError(asApiError(failed));
      setBusy(false);
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form onSubmit={(event) => { event.preventDefault(); void doIt(); }}>
        {props.children}
        {props.reason ? (
          <label class="field">{props.reason}
            <input type="text" maxLength={1000} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
          </label>
        ) : null}
        <Failure error={error} />
        <div class="buttons">
          <button type="submit" class={props.danger ? "danger" : "primary"} disabled={busy}>{busy ? "Working…" : props.action}</button>
          <button type="button" onClick={props.onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}
