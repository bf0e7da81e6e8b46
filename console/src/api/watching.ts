// Reading again and again, and following streams: while the page is seen, with growing pauses while nothing answers.
import { useEffect, useRef, useState } from "preact/hooks";
import { delayMs } from "../live/backoff.ts";
import { follow, get } from "./client.ts";
import { ApiError } from "./errors.ts";
import { key } from "./session.ts";
import type { Signal } from "./signal.ts";

/** What is known of something that is read again and again. What was read last stays while it cannot be read. */
export interface Known<T> {
  value: T | undefined;
  error: ApiError | undefined;
  /** Reads at once. */
  again: () => void;
}

/** The value of a signal; what uses it is drawn anew when it changes. */
export function useSignal<T>(watched: Signal<T>): T {
  const [value, setValue] = useState(watched.get());
  useEffect(() => {
    setValue(watched.get());
    return watched.subscribe(() => setValue(watched.get()));
  }, [watched]);
  return value;
}

/** Reads with `read` every `periodMs`; something else where `what` changes, the same anew where `turn` does. A period of 0
 * reads once. */
export function useRead<T>(
  what: string, periodMs: number, read: (signal: AbortSignal) => Promise<T>, turn = 0,
): Known<T> {
  const used = useSignal(key);
  const [state, setState] = useState<{ what: string; value?: T; error?: ApiError }>({ what });
  const [asked, setAsked] = useState(0);
  const reading = useRef(read);
  reading.current = read;
  useEffect(() => {
    return whileSeen(periodMs, async (signal) => {
      try {
        const value = await reading.current(signal);
        if (!signal.aborted) setState({ what, value });
        return periodMs > 0;
      } catch (error) {
        if (signal.aborted) return false;
        const failed = asApiError(error);
        setState((before) => ({ what, value: before.what === what ? before.value : undefined, error: failed }));
        if (!passes(failed)) return false;
        throw failed;
      }
    });
  }, [what, periodMs, used, asked, turn]);
  const current = state.what === what ? state : { what };
  return { value: current.value, error: current.error, again: () => setAsked((times) => times + 1) };
}

/** Reads one path of the API every `periodMs`. */
export function useGet<T>(at: string, periodMs = 0, turn = 0): Known<T> {
  return useRead<T>(at, periodMs, (signal) => get<T>(at, signal), turn);
}

/** Follows a stream, and begins again where it ends. `each` gets every message; a stream begins with what holds, and
 * `begin` is called before. Empty `at`: nothing is followed. */
export function useStream<T>(at: string, each: (message: T) => void, begin?: () => void): ApiError | undefined {
  const used = useSignal(key);
  const [error, setError] = useState<ApiError>();
  const handler = useRef(each);
  handler.current = each;
  const beginning = useRef(begin);
  beginning.current = begin;
  useEffect(() => {
    setError(undefined);
    if (at === "") return undefined;
    return whileSeen(1000, async (signal) => {
      try {
        beginning.current?.();
        await follow<T>(at, (message) => {
          setError(undefined);
          handler.current(message);
        }, signal);
        return true;
      } catch (failed) {
        if (signal.aborted) return false;
        setError(asApiError(failed));
        if (!passes(asApiError(failed))) return false;
        throw failed;
      }
    });
  }, [at, used]);
  return error;
}

/** Runs `once` again and again while the page is seen; at once when it is seen again. True: again after the period. False:
 * not again. A failure: again, later each time. Returns what ends it. */
function whileSeen(periodMs: number, once: (signal: AbortSignal) => Promise<boolean>): () => void {
  let running: AbortController | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  const stop = () => {
    clearTimeout(timer);
    running?.abort();
    running = undefined;
  };
  const start = async () => {
    const mine = new AbortController();
    running = mine;
    let more = true;
    try {
      more = await once(mine.signal);
      failures = 0;
    } catch {
      failures += 1;
    }
    if (running !== mine) return;
    running = undefined;
    if (more) timer = setTimeout(() => void start(), delayMs(periodMs, failures, Math.random()));
  };
  const seen = () => {
    stop();
    if (document.visibilityState === "visible") void start();
  };
  document.addEventListener("visibilitychange", seen);
  seen();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    stop();
  };
}

/** Whether the same call may succeed later without anybody doing something. */
function passes(error: ApiError): boolean {
  return error.status === 0 || error.status === 408 || error.status === 429 || (error.status >= 500 && error.status !== 501);
}

export function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, error instanceof Error ? error.message : String(error));
}
