// Numbers as people read them, each with its unit.

const NONE = "–";
/** Between a number and its unit: they stay on one line. */
const THIN = "\u202f";

/** A count: in full below a million. */
export function count(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  if (Math.abs(value) < 1e6) return Math.round(value).toLocaleString("en-GB");
  return compact(value);
}

/** A share, 0 to 1, in percent. Small shares keep two digits that say something. */
export function percent(share: number | undefined): string {
  if (share === undefined || !Number.isFinite(share)) return NONE;
  const value = share * 100;
  const size = Math.abs(value);
  const digits = size === 0 || size >= 10 ? (Number.isInteger(value) ? 0 : 1) : size >= 1 ? 1 : size >= 0.1 ? 2 : 3;
  if (size !== 0 && size < 0.001) return `<0.001${THIN}%`;
  return `${trimmed(value.toFixed(digits))}${THIN}%`;
}

/** A time in milliseconds; whole seconds and more in greater units. */
export function milliseconds(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  if (value >= 60_000) return duration(value / 1000);
  if (value >= 1000) return `${trimmed((value / 1000).toFixed(2))}${THIN}s`;
  return `${trimmed(value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2))}${THIN}ms`;
}

/** A length of time in seconds, in its two greatest units. */
export function duration(seconds: number | undefined): string {
  if (seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 1) return seconds <= 0 ? `0${THIN}s` : `<1${THIN}s`;
  let rest = Math.round(seconds);
  const said: string[] = [];
  for (const [unit, size] of [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]] as const) {
    const many = Math.floor(rest / size);
    if (many > 0) said.push(`${many}${THIN}${unit}`);
    else if (said.length > 0) break;
    rest -= many * size;
    if (said.length === 2) break;
  }
  return said.join(" ");
}

/** A rate a second. */
export function rate(value: number | undefined, unit = "/s"): string {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  return `${short(value)}${THIN}${unit}`;
}

/** A size in bytes, in powers of 1000. */
export function bytes(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  let size = value;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (Math.abs(size) < 1000) return `${unit === "B" ? size.toFixed(0) : short(size)}${THIN}${unit}`;
    size /= 1000;
  }
  return `${short(size)}${THIN}TB`;
}

/** A number of no known unit, to three digits. */
export function short(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6) return compact(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-GB");
  if (size >= 100) return trimmed(value.toFixed(0));
  if (size === 0) return "0";
  return trimmed(size < 0.001 ? value.toExponential(1) : value.toPrecision(3));
}

function compact(value: number): string {
  for (const [unit, size] of [["trillion", 1e12], ["billion", 1e9], ["million", 1e6]] as const) {
    if (Math.abs(value) >= size) return `${trimmed((value / size).toPrecision(4))} ${unit}`;
  }
  return trimmed(value.toPrecision(4));
}

/** Without zeros at the end of a fraction. */
function trimmed(text: string): string {
  return text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
}
