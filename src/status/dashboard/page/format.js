// Numbers for people: aligned, short, always with their unit.

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
/** The text of a missing value. */
export const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** At least three significant digits, never more than needed. */
function figures(value) {
  const size = Math.abs(value);
  return value.toFixed(size < 10 ? 2 : size < 100 ? 1 : 0);
}

/** A count: 1,234,567; in millions from ten million on. */
export function count(value) {
  if (!isNumber(value)) return NONE;
  for (const [unit, name] of [[1e12, " T"], [1e9, " G"], [1e7, " M"]]) {
    if (Math.abs(value) >= unit) return figures(value / (unit === 1e7 ? 1e6 : unit)) + name;
  }
  return WHOLE.format(value);
}

/** Per second. */
export function rate(value) {
  if (!isNumber(value)) return NONE;
  return value > 0 && value < 10 ? value.toFixed(1) : count(Math.round(value));
}

/** 1.50 MiB */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  let unit = 0;
  while (Math.abs(value) >= 1023.5 && unit < 5) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : figures(value)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
}

/** 850 µs, 1.25 ms, 3.1 s */
export function latency(us) {
  if (!isNumber(us)) return NONE;
  if (us < 999.5) return `${us < 10 ? us.toFixed(1) : Math.round(us)} µs`;
  if (us < 999_500) return `${figures(us / 1e3)} ms`;
  return `${figures(us / 1e6)} s`;
}

/** 4 s, 2 min 5 s, 3 h 12 min, 5 d 2 h */
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([unit]) => whole >= unit);
  if (first < 0) return "0 s";
  const said = [];
  let left = whole;
  for (const [unit, name] of parts.slice(first, first + 2)) {
    const units = Math.floor(left / unit);
    left -= units * unit;
    if (units > 0 || said.length === 0) said.push(`${units} ${name}`);
  }
  return said.join(" ");
}

export const percent = (share) => (isNumber(share) ? `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %` : NONE);

/** The local time of day. */
export function clock(us) {
  return isNumber(us) ? new Date(us / 1e3).toLocaleTimeString("en-GB") : NONE;
}

/** The local day and time of an RFC 3339 text. */
export function moment(text) {
  const at = new Date(text ?? NaN);
  return Number.isNaN(at.getTime()) ? NONE : at.toLocaleString("sv-SE");
}
