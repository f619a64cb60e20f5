// Pictures on canvases. Each has a summary in words beside it; colours are those of elements of the style sheet.

/** fit gives a canvas the pixels of its place, and returns its context and its size. */
export function fit(canvas) {
  const scale = Math.min(devicePixelRatio || 1, 2);
  const w = Math.max(1, Math.floor(canvas.clientWidth)), hgt = Math.max(1, Math.floor(canvas.clientHeight));
  if (canvas.width !== Math.floor(w * scale) || canvas.height !== Math.floor(hgt * scale)) {
    canvas.width = Math.floor(w * scale);
    canvas.height = Math.floor(hgt * scale);
  }
  const c = canvas.getContext("2d");
  c.setTransform(scale, 0, 0, scale, 0, 0);
  c.clearRect(0, 0, w, hgt);
  return { c, w, h: hgt };
}

/** colour is the colour that the style sheet gives a class. */
export function colour(canvas, name) {
  const el = canvas.parentElement.querySelector("." + name);
  return el ? getComputedStyle(el).backgroundColor : "#888";
}

/** cells says how large the squares are in which n columns fill a width. */
function cells(n, w) {
  for (let side = 16; side > 5; side--) {
    if (Math.ceil(n / Math.floor(w / side)) * side <= 200) return side;
  }
  return 5;
}

/** columns unrolls runs: how many columns, and what is said of each. */
function columns(runs, n) {
  const out = [];
  for (const [run, value] of runs) for (let i = Math.min(run, n - out.length); i > 0; i--) out.push(value);
  return out;
}

/**
 * rare says which columns have a missing piece that fewer neighbours have than others: how many have it, and where; null: there is none rarer.
 * @param {{columns: number, rarest: [number, number][]}} p
 */
export function rare(p) {
  const each = columns(p.rarest, p.columns), told = each.filter((n) => n >= 0);
  if (told.length === 0) return null;
  const least = Math.min(...told), most = Math.max(...told);
  if (least === most && least > 0) return null;
  return { least, at: each.map((n) => n === least), count: told.filter((n) => n === least).length };
}

/**
 * pieces draws which part of a content is here, what is under way, and what is rare: at most 2,048 squares, however many pieces there are.
 * @param {HTMLCanvasElement} canvas
 * @param {{columns: number, have: [number, number][], under: [number, number][], rarest: [number, number][]}} p
 */
export function pieces(canvas, p) {
  const width = canvas.clientWidth || 1;
  const side = cells(p.columns, width), perRow = Math.max(1, Math.floor(width / side));
  const height = Math.max(1, Math.ceil(p.columns / perRow)) * side + "px";
  if (canvas.style.height !== height) canvas.style.height = height;
  const { c } = fit(canvas);
  const none = colour(canvas, "of-none"), part = colour(canvas, "of-part"), all = colour(canvas, "of-all"), way = colour(canvas, "of-way"), few = colour(canvas, "of-rare");
  const gap = side > 6 ? 1.5 : 1, d = side - gap;
  const have = columns(p.have, p.columns), under = columns(p.under, p.columns), rarest = rare(p);
  have.forEach((percent, i) => { // each state is a shape, not a colour alone
    const x = i % perRow * side, y = Math.floor(i / perRow) * side;
    c.fillStyle = percent === 100 ? all : none;
    c.fillRect(x, y, d, d);
    if (percent > 0 && percent < 100) { // filled from below
      const up = Math.max(1.5, d * percent / 100);
      c.fillStyle = part;
      c.fillRect(x, y + d - up, d, up);
    }
    if (under[i] > 0) { // framed
      c.strokeStyle = way;
      c.lineWidth = side > 8 ? 2 : 1.5;
      c.strokeRect(x + c.lineWidth / 2, y + c.lineWidth / 2, d - c.lineWidth, d - c.lineWidth);
    } else if (rarest?.at[i]) { // a corner
      c.fillStyle = few;
      c.beginPath();
      c.moveTo(x, y);
      c.lineTo(x + d * 0.75, y);
      c.lineTo(x, y + d * 0.75);
      c.fill();
    }
  });
}

/**
 * speed draws two series of bytes per second, a sample a second, the last one now.
 * @param {HTMLCanvasElement} canvas
 * @param {{down: number[], up: number[]}} s
 * @param {(n: number) => string} label
 */
export function speed(canvas, s, label) {
  const { c, w, h } = fit(canvas);
  const most = nice(Math.max(1024, ...s.down, ...s.up));
  const down = colour(canvas, "of-down"), up = colour(canvas, "of-up"), grid = colour(canvas, "of-grid"), ink = getComputedStyle(canvas).color;
  const left = label ? 62 : 0, top = label ? 8 : 2, bottom = label ? 16 : 1;
  const height = h - top - bottom, x = (i) => left + (w - left) * (i + 1) / 300, y = (v) => top + height * (1 - v / most);
  if (label) {
    c.font = "11px system-ui, sans-serif";
    c.textBaseline = "middle";
    for (const part of [0, 0.5, 1]) {
      c.fillStyle = grid;
      c.fillRect(left, Math.round(y(most * part)), w - left, 1);
      c.fillStyle = ink;
      c.textAlign = "right";
      if (part > 0) c.fillText(label(most * part), left - 6, y(most * part));
    }
    c.textAlign = "left";
    c.fillText("5 min ago", left, h - 6);
    c.textAlign = "right";
    c.fillText("now", w, h - 6);
  }
  const line = (values, stroke, fill) => {
    if (values.length === 0) return;
    const first = 300 - values.length;
    c.beginPath();
    values.forEach((v, i) => c.lineTo(x(first + i), y(v)));
    c.strokeStyle = stroke;
    c.lineWidth = 1.5;
    c.stroke();
    if (!fill) return;
    c.lineTo(x(299), y(0));
    c.lineTo(x(first), y(0));
    c.globalAlpha = 0.2;
    c.fillStyle = stroke;
    c.fill();
    c.globalAlpha = 1;
  };
  line(s.down, down, true);
  c.setLineDash([4, 2]);
  line(s.up, up, false);
  c.setLineDash([]);
}

function nice(n) {
  const unit = 1024 ** Math.floor(Math.log(n) / Math.log(1024));
  for (const step of [1, 2, 5, 10, 20, 50, 100, 200, 500, 1024]) {
    if (n <= step * unit) return step * unit;
  }
  return n;
}

/** ring draws how far the downloads are into the page's icon. */
export function ring(link, part) {
  if (part === null) {
    if (link.getAttribute("href") !== "icon.svg") {
      link.type = "image/svg+xml";
      link.setAttribute("href", "icon.svg");
    }
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const c = canvas.getContext("2d");
  c.lineWidth = 7;
  c.strokeStyle = "#8aa";
  c.beginPath();
  c.arc(16, 16, 11, 0, 7);
  c.stroke();
  c.strokeStyle = "#0b7ab5";
  c.beginPath();
  c.arc(16, 16, 11, -Math.PI / 2, -Math.PI / 2 + part * 2 * Math.PI);
  c.stroke();
  link.type = "image/png";
  link.href = canvas.toDataURL();
}
