// Figures as people read them.

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** size writes bytes with three digits. */
export function size(n) {
  if (!(n > 0)) return "0 B";
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1024;
  return (i === 0 || n >= 100 ? Math.round(n) : n >= 10 ? n.toFixed(1) : n.toFixed(2)) + " " + units[i];
}

/** rate writes bytes per second; nothing is a dash. */
export function rate(n) {
  return n > 0 ? size(n) + "/s" : "–";
}

/** duration writes seconds. */
export function duration(s) {
  s = Math.round(s);
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0") + " min";
  if (s < 172800) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
  return Math.floor(s / 86400) + " days";
}

/** percent is of a whole, and 100 only when all is there. */
export function percent(done, all) {
  if (!(all > 0)) return 0;
  return done >= all ? 100 : Math.min(99, Math.floor(done * 100 / all));
}

/** count writes a number with separators. */
export function count(n) {
  return Number(n).toLocaleString("en");
}

/** many writes a number of things. */
export function many(n, one, more) {
  return count(n) + " " + (n === 1 ? one : more || one + "s");
}

/** clock writes the time of a moment. */
export function clock(t) {
  return new Date(t).toLocaleTimeString("en-GB");
}
