// The swarm as a picture: members on rings, contents in the middle, a line from each member to what it has; whole copies and parts look
// different, and who has just come or gone is seen for a while. It is drawn at most thirty times a second, and only while something moves.

import { h, text } from "./dom.js";
import { count, many } from "./format.js";
import { fit, colour } from "./draw.js";

const maxLines = 3000, maxContents = 60, fresh = 4000;

// place is where something stands in the ring, always the same for the same name.
function angle(s) {
  let n = 2166136261;
  for (let i = 0; i < s.length; i++) n = Math.imul(n ^ s.charCodeAt(i), 16777619);
  return (n >>> 0) / 2 ** 32 * 2 * Math.PI;
}

export class Picture {
  constructor() {
    this.canvas = h("canvas", { class: "picture", "aria-hidden": "true" });
    this.words = h("p", { class: "summary" });
    const swatch = (name, label) => h("span", {}, h("i", { class: name }), label);
    this.el = h("div", {}, h("p", { class: "legend", "aria-hidden": "true" }, swatch("of-one", "has all it holds (filled)"), swatch("of-up", "fetches (ring)"), swatch("of-all", "content"),
      h("i", { class: "of-grid" }), this.canvas), this.words);
    this.born = new Map(); // peer -> when it was first seen
    this.v = null;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  show(v) {
    const now = performance.now(), first = this.v === null, there = new Set(v.there.map((m) => m.peer));
    for (const m of v.there) if (!this.born.has(m.peer)) this.born.set(m.peer, first ? -fresh : now);
    for (const p of this.born.keys()) if (!there.has(p)) this.born.delete(p);
    this.v = v;
    const fetching = v.there.filter((m) => m.holds > m.whole).length;
    text(this.words, many(v.members, "member") + ": " + count(fetching) + " fetching, " + count(v.there.filter((m) => m.whole > 0).length) + " with whole contents.");
    this.draw();
  }

  draw() {
    if (!this.v || !this.canvas.isConnected || this.canvas.clientWidth < 2) return;
    const { c, w, h: hgt } = fit(this.canvas), v = this.v, now = performance.now();
    const good = colour(this.canvas, "of-one"), part = colour(this.canvas, "of-up"), mid = colour(this.canvas, "of-all"), grid = colour(this.canvas, "of-grid");
    const radius = Math.min(w, hgt) / 2 - 10, dot = v.there.length > 1000 ? 1.8 : v.there.length > 150 ? 3 : v.there.length > 40 ? 4.5 : 6;
    const x = (a, r) => w / 2 + Math.cos(a) * r * Math.min(1.6, w / hgt), y = (a, r) => hgt / 2 + Math.sin(a) * r;
    // Members are spread evenly in the order of their ids, on as many rings as there is need for.
    const rings = Math.max(1, Math.ceil(v.there.length / 400));
    const member = v.there.map((m, i) => {
      const a = 2 * Math.PI * i / Math.max(1, v.there.length), r = radius * (1 - 0.34 * (i % rings) / rings);
      return [x(a, r), y(a, r)];
    });
    const content = v.contained.slice(0, maxContents).map((k, i) => {
      if (v.contained.length === 1) return [w / 2, hgt / 2];
      const r = radius * 0.42 * Math.sqrt((i + 0.5) / Math.min(maxContents, v.contained.length)), a = i * 2.39996 + angle(k.id) * 0.2;
      return [x(a, r), y(a, r)];
    });
    const step = Math.max(1, Math.ceil(v.holds.length / maxLines));
    c.lineWidth = 0.8;
    for (const all of [0, 1]) {
      c.strokeStyle = all ? grid : part;
      c.globalAlpha = all ? 0.9 : 0.55;
      c.setLineDash(all ? [] : [3, 3]);
      c.beginPath();
      for (let i = 0; i < v.holds.length; i += step) {
        const [m, k, whole] = v.holds[i];
        if (whole !== all || k >= content.length) continue;
        c.moveTo(member[m][0], member[m][1]);
        c.lineTo(content[k][0], content[k][1]);
      }
      c.stroke();
    }
    c.setLineDash([]);
    c.globalAlpha = 1;
    const kinds = { fetches: [], has: [], nothing: [] }; // each is drawn as one path: thousands of paths take too long
    let moving = false;
    v.there.forEach((m, i) => {
      kinds[m.holds > m.whole ? "fetches" : m.holds ? "has" : "nothing"].push(member[i]);
      const age = now - (this.born.get(m.peer) ?? -fresh);
      if (age >= fresh || this.still.matches) return;
      moving = true;
      c.strokeStyle = good;
      c.globalAlpha = 1 - age / fresh;
      c.beginPath();
      c.arc(member[i][0], member[i][1], dot + 12 * age / fresh, 0, 7);
      c.stroke();
      c.globalAlpha = 1;
    });
    const path = (places) => {
      c.beginPath();
      for (const [mx, my] of places) {
        if (dot < 2) c.rect(mx - dot, my - dot, 2 * dot, 2 * dot);
        else {
          c.moveTo(mx + dot, my);
          c.arc(mx, my, dot, 0, 7);
        }
      }
    };
    c.lineWidth = dot < 2 ? 1 : 1.6;
    c.strokeStyle = part;
    path(kinds.fetches);
    c.stroke();
    c.fillStyle = good;
    path(kinds.has);
    c.fill();
    c.fillStyle = grid;
    path(kinds.nothing);
    c.fill();
    c.fillStyle = mid;
    v.contained.slice(0, maxContents).forEach((k, i) => {
      const side = (6 + 3 * Math.log2(1 + k.holders)) * Math.min(1, radius / 180);
      c.fillRect(content[i][0] - side / 2, content[i][1] - side / 2, side, side);
    });
    if (moving && !this.next) {
      this.next = setTimeout(() => requestAnimationFrame(() => { this.next = 0; this.draw(); }), 33);
    }
  }
}
