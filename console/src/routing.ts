// Which page an address means. Pages have addresses of their own, so that they can be shared and gone back to.

export const ROOT = "/console";

export type Place =
  | { page: "overview" }
  | { page: "model"; model: string }
  | { page: "version"; model: string; version: string }
  | { page: "traffic"; model: string }
  | { page: "releases"; model: string }
  | { page: "drift"; model: string; report: string }
  | { page: "log"; model: string; request: string }
  | { page: "jobs" }
  | { page: "job"; job: string }
  | { page: "schedules" }
  | { page: "alerts" }
  | { page: "rules" }
  | { page: "channels" }
  | { page: "silences" }
  | { page: "usage" }
  | { page: "nowhere"; path: string };

/** The place that a path names. */
export function placeOf(path: string): Place {
  const parts = path.replace(/\/+$/, "").split("/").slice(2).map(decoded);
  const [first, second, third, fourth] = parts;
  if (!path.startsWith(ROOT) || parts.some((part) => part === "")) return { page: "nowhere", path };
  if (first === undefined) return { page: "overview" };
  if (second === undefined && (first === "jobs" || first === "schedules" || first === "alerts" || first === "usage")) {
    return { page: first };
  }
  if (first === "alerts" && third === undefined && (second === "rules" || second === "channels" || second === "silences")) {
    return { page: second };
  }
  if (first === "jobs" && second !== undefined && third === undefined) return { page: "job", job: second };
  if (first === "models" && second !== undefined) {
    if (third === undefined) return { page: "model", model: second };
    if (fourth === undefined && (third === "traffic" || third === "releases")) return { page: third, model: second };
    if (parts.length > 4) return { page: "nowhere", path };
    // Without a fourth part: the newest report, all requests.
    if (third === "drift") return { page: third, model: second, report: fourth ?? "" };
    if (third === "log") return { page: third, model: second, request: fourth ?? "" };
    if (third === "versions" && fourth !== undefined) return { page: "version", model: second, version: fourth };
  }
  return { page: "nowhere", path };
}

/** The path of a place under the console. */
export function pathOf(...parts: string[]): string {
  return [ROOT, ...parts.map(encodeURIComponent)].join("/");
}

/** What the window's title and the page's heading say. */
export function titleOf(place: Place): string {
  switch (place.page) {
    case "overview": return "Overview";
    case "model": return place.model;
    case "version": return `${place.model} ${place.version}`;
    case "traffic": return `Traffic of ${place.model}`;
    case "releases": return `Releases of ${place.model}`;
    case "drift": return `Drift of ${place.model}`;
    case "log": return `Predictions of ${place.model}`;
    case "jobs": return "Batch jobs";
    case "job": return "Batch job";
    case "schedules": return "Schedules";
    case "alerts": return "Alerts";
    case "rules": return "Alert rules";
    case "channels": return "Notification channels";
    case "silences": return "Silences";
    case "usage": return "Usage";
    case "nowhere": return "No such page";
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}
