// The public REST API, and nothing else.
import { ApiError, errorFrom } from "./errors.ts";
import { Lines } from "./lines.ts";
import { key, keyWanted } from "./session.ts";

const TIMEOUT_MS = 15_000;
/** The longest that a change may take: a roll-back may have to load a version first. */
const CHANGE_TIMEOUT_MS = 150_000;
const SILENCE_MS = 330_000;

/** A path of the API out of its parts, each escaped. */
export function path(...parts: string[]): string {
  return `/v1/${parts.map(encodeURIComponent).join("/")}`;
}

/** The path of a call that is no plain reading, such as `…/traffic:plan`. */
export function verb(at: string, name: string): string {
  return `${at}:${name}`;
}

export type Query = Record<string, string | number | undefined>;

/** `at` with what is asked for; what is empty or absent is left out. */
export function withQuery(at: string, query: Query): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  return pairs.length === 0 ? at : `${at}?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}`;
}

/** Reads. Throws ApiError. */
export async function get<T>(at: string, signal?: AbortSignal, query: Query = {}): Promise<T> {
  return (await call("GET", withQuery(at, query), undefined, signal, TIMEOUT_MS)) as T;
}

/** Changes something. Throws ApiError. */
export async function send<T>(method: "POST" | "PATCH" | "PUT", at: string, body: object): Promise<T> {
  return (await call(method, at, body, undefined, CHANGE_TIMEOUT_MS)) as T;
}

/** Removes something. Throws ApiError. */
export async function remove(at: string): Promise<void> {
  await call("DELETE", at, undefined, undefined, CHANGE_TIMEOUT_MS);
}

/** Follows a stream until it ends or `signal` says so; each message goes to `each`. Throws ApiError. */
export async function follow<T>(at: string, each: (message: T) => void, signal: AbortSignal): Promise<void> {
  const answer = await asked("GET", at, undefined, signal);
  if (answer.body === null) return;
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  const lines = new Lines();
  let silence: ReturnType<typeof setTimeout> | undefined;
  try {
    for (;;) {
      // Whatever lies between may keep a dead connection open.
      silence = setTimeout(() => void reader.cancel(), SILENCE_MS);
      const { done, value } = await reader.read();
      clearTimeout(silence);
      if (done) return;
      for (const line of lines.push(decoder.decode(value, { stream: true }))) each(JSON.parse(line) as T);
    }
  } catch (error) {
    if (signal.aborted) return;
    throw new ApiError(0, `the stream broke off: ${(error as Error).message}`);
  } finally {
    clearTimeout(silence);
    void reader.cancel().catch(() => undefined);
  }
}

/** Text that makes a call safe to repeat. */
export function requestId(): string {
  return `console-${[...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

async function call(
  method: string, at: string, body: object | undefined, signal: AbortSignal | undefined, timeoutMs: number,
): Promise<unknown> {
  const bound = AbortSignal.timeout(timeoutMs);
  const answer = await asked(method, at, body, signal === undefined ? bound : AbortSignal.any([signal, bound]));
  const text = await answer.text();
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch {
    throw new ApiError(answer.status, `the answer to ${method} ${at} is no JSON: ${text.slice(0, 200)}`);
  }
}

async function asked(method: string, at: string, body: object | undefined, signal: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { accept: "application/json" };
  const used = key.get();
  if (used !== "") headers["authorization"] = `Bearer ${used}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(at, {
      method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error",
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    if ((error as Error).name === "TimeoutError") throw new ApiError(0, `${method} ${at} was not answered in time`);
    throw new ApiError(0, "the gateway does not answer");
  }
  if (answer.ok) return answer;
  const failed = errorFrom(answer.status, await answer.text());
  if (failed.status === 401 && used === key.get()) keyWanted.set(true);
  throw failed;
}
