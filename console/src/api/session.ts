// The API key: typed in by the reader, kept for this tab alone, never in an address or a log.
import { signal } from "./signal.ts";

const PLACE = "infermesh.key";

/** The key in use. Empty: calls are made without one. */
export const key = signal(sessionStorage.getItem(PLACE) ?? "");
/** Whether the API has asked for a key that it takes. */
export const keyWanted = signal(false);

/** From now on calls show this key; an empty one is forgotten. */
export function useThisKey(value: string): void {
  const cleaned = value.trim();
  if (cleaned === "") sessionStorage.removeItem(PLACE);
  else sessionStorage.setItem(PLACE, cleaned);
  keyWanted.set(false);
  key.set(cleaned);
}
