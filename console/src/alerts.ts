// The alerts that are not resolved, as the stream tells them: one stream for the whole console.
import { useState } from "preact/hooks";
import type { ApiError } from "./api/errors.ts";
import { signal } from "./api/signal.ts";
import type { Alert } from "./api/types.ts";
import { useStream } from "./api/watching.ts";

export interface Firing {
  /** Those that fire and nobody looks after. */
  alerts: readonly Alert[];
  error: ApiError | undefined;
}

/** Counts up with each alert that changes: lists are read anew. */
export const changes = signal(0);

/** What fires now. To be used once, by the frame. */
export function useFiring(): Firing {
  const [open, setOpen] = useState<ReadonlyMap<string, Alert>>(new Map());
  const error = useStream<Alert>("/v1/alerts:watch", (alert) => {
    changes.set(changes.get() + 1);
    setOpen((before) => {
      const after = new Map(before);
      if (alert.status === "firing") after.set(alert.alert_id, alert);
      else after.delete(alert.alert_id);
      return after;
    });
  }, () => setOpen(new Map()));
  return { alerts: [...open.values()], error };
}
