// The page of a peer. What the peer tells by events is kept in `known`; what is shown follows from that, at most four times a second.

import { h, text, set, plain, say, toast } from "./dom.js";
import { rate, size, many, percent } from "./format.js";
import { ask, follow } from "./api.js";
import * as draw from "./draw.js";
import * as theme from "./theme.js";
import * as dialogs from "./dialogs.js";
import { List } from "./list.js";
import { Detail } from "./detail.js";

const frame = 250; // milliseconds between two pictures
const undoSeconds = 6;

const known = { stats: null, transfers: new Map(), log: [], speed: { down: [], up: [] }, state: "" };
const leaving = new Map(); // id -> what is to be removed when nobody undoes it
const $ = (id) => document.getElementById(id);

/* what the peer tells */

function on(kind, data) {
  switch (kind) {
    case "snapshot":
      known.stats = data.stats;
      known.transfers = new Map(data.transfers.map((r) => [r.id, r]));
      known.log = data.log;
      loadSpeed();
      break;
    case "transfer":
      announce(known.transfers.get(data.id), data);
      known.transfers.set(data.id, data);
      break;
    case "removed":
      known.transfers.delete(data.id);
      leaving.delete(data.id);
      break;
    case "stats":
      known.stats = data;
      sample(data);
      break;
    case "log":
      known.log.push(data);
      if (known.log.length > 500) known.log.shift();
  }
  show();
}

const snapshot = () => ({ stats: known.stats, transfers: [...known.transfers.values()], log: known.log });

// announce says when a transfer comes to another state: no ticks.
function announce(was, now) {
  if (!was || was.state === now.state || leaving.has(now.id)) return;
  if (["complete", "failed", "paused", "changed"].includes(now.state)) say(plain(now.name) + ": " + now.state);
}

async function loadSpeed() {
  try {
    known.speed = (await ask("GET", "/status")).speed || known.speed;
  } catch { /* the stream says so */ }
  show();
}

let sampled = 0;
function sample(s) {
  if (Date.now() - sampled < 1000) return;
  sampled = Date.now();
  for (const [series, v] of [[known.speed.down, s.down], [known.speed.up, s.up]]) {
    series.push(v);
    if (series.length > 300) series.shift();
  }
}

/* what is done */

async function attempt(what, path, method = "POST") {
  try {
    return await ask(method, path);
  } catch (f) {
    toast(what + ": " + f.what + (f.next ? ".  " + f.next : ""), null, 12);
    return null;
  }
}

function took(row) {
  if (!known.transfers.has(row.id)) known.transfers.set(row.id, row);
  location.hash = "#/t/" + row.id;
  show();
}

const act = {
  async pause(r) {
    const row = await attempt("Pause", "/transfers/" + r.id + "/pause");
    if (row) {
      known.transfers.set(r.id, row);
      toast("Paused " + plain(r.name), { label: "Undo", do: () => act.resume(r) });
      show();
    }
  },
  async resume(r) {
    const row = await attempt("Resume", "/transfers/" + r.id + "/resume");
    if (row) known.transfers.set(r.id, row);
    show();
  },
  remove(r) {
    if (r.folder) return toast("It is shared because it lies in the watched folder " + plain(r.folder));
    if (r.kind === "share") return act.leave(r);
    dialogs.remove(r, () => act.leave(r), async () => {
      await ask("DELETE", "/transfers/" + r.id + "?data=true");
      known.transfers.delete(r.id);
      show();
    });
  },
  // leave takes a transfer off the list, unless that is undone within some seconds.
  leave(r) {
    const timer = setTimeout(() => act.left(r.id), undoSeconds * 1000);
    leaving.set(r.id, timer);
    if (openID() === r.id) location.hash = "#/";
    say(plain(r.name) + " removed");
    toast("Removed " + plain(r.name), { label: "Undo", do: () => { clearTimeout(timer); leaving.delete(r.id); show(); } }, undoSeconds);
    show();
  },
  async left(id, more) {
    if (!leaving.has(id)) return;
    clearTimeout(leaving.get(id));
    try {
      await ask("DELETE", "/transfers/" + id, {}, more);
      known.transfers.delete(id);
    } catch (f) {
      if (f.status === 404) known.transfers.delete(id);
      else toast("Remove: " + f.what);
    }
    leaving.delete(id);
    show();
  },
};

addEventListener("pagehide", () => { for (const id of leaving.keys()) act.left(id, { keepalive: true }); });

const share = (hint) => dialogs.share(known.stats?.swarms || [], took, typeof hint === "string" ? hint : "");
const get = (what) => dialogs.get(known.stats?.swarms || [], took, typeof what === "string" ? what : "");

/* what is shown */

const list = new List(act);
const detail = new Detail({ canLink: (id) => Boolean(known.stats?.swarms.find((s) => s.id === id)?.serving) });
const figures = {};
for (const k of ["down", "up", "counts"]) figures[k] = h("span", { class: "figure" });
const spark = h("canvas", { class: "spark", "aria-hidden": "true" });
const search = h("input", { type: "search", "aria-label": "Search by name", placeholder: "Search", autocomplete: "off", oninput: (e) => { list.filter = e.target.value; show(); } });
const bar = h("div", { class: "bar" },
  h("div", { class: "rates" }, figures.down, figures.up, h("span", { class: "legend" }, h("i", { class: "of-down" }), h("i", { class: "of-up" }), h("i", { class: "of-grid" }), spark)),
  figures.counts, h("span", { class: "space" }), search,
  h("button", { type: "button", class: "first", onclick: share, "aria-keyshortcuts": "s" }, "Share"),
  h("button", { type: "button", class: "first", onclick: get, "aria-keyshortcuts": "g" }, "Get"));
const swarmNotes = h("div", { class: "notes" });
const empty = h("section", { class: "empty", hidden: true },
  h("div", { class: "card" }, h("h2", {}, "Share a file"), h("p", {}, "It is given from where it lies, to all machines of the swarm that ask for it."),
    h("button", { type: "button", class: "first", onclick: share }, "Choose a file"), h("p", { class: "summary" }, "or ", h("code", {}, "shoal share FILE"))),
  h("div", { class: "card" }, h("h2", {}, "Get a file"), h("p", {}, "Paste a link, or choose what the swarm has. Every piece is checked."),
    h("button", { type: "button", class: "first", onclick: get }, "Choose what to get"), h("p", { class: "summary" }, "or ", h("code", {}, "shoal get NAME"))));
const work = h("div", { class: "work", hidden: true }, bar, swarmNotes, empty, list.el, detail.el);
const signIn = h("section", { class: "card sign-in", hidden: true }, h("h2", {}, "Sign in"),
  h("p", {}, "This page shows and does what its owner may. On the machine of this peer, type"), h("p", {}, h("code", {}, "shoal web")),
  h("p", {}, "and open the link that it prints. It works once, within ten minutes; this browser then stays signed in."));
const waiting = h("p", { class: "waiting" }, "Asking the peer…");
$("main").append(waiting, signIn, work);

const openID = () => location.hash.startsWith("#/t/") ? decodeURIComponent(location.hash.slice(4)) : "";

let timer = 0, last = 0;
function show() {
  if (timer) return;
  timer = setTimeout(() => requestAnimationFrame(() => { timer = 0; last = Date.now(); render(); }), Math.max(0, frame - (Date.now() - last)));
}

function render() {
  const out = known.state === "out", s = known.stats;
  signIn.hidden = !out;
  waiting.hidden = out || s !== null;
  work.hidden = out || s === null;
  if (out || s === null) {
    document.title = out ? "Sign in · shoal" : "shoal";
    return;
  }
  text($("where"), plain(s.name));
  linkState(s);
  text(figures.down, "↓ " + rate(s.down));
  text(figures.up, "↑ " + rate(s.up));
  const sessions = s.swarms.reduce((n, w) => n + w.sessions, 0);
  text(figures.counts, [many(known.transfers.size, "transfer"), many(sessions, "peer") + " connected", s.stalled && many(s.stalled, "download") + " wait for a giver"].filter(Boolean).join("  ·  "));
  const rows = [...known.transfers.values()].filter((r) => !leaving.has(r.id));
  empty.hidden = rows.length > 0;
  list.el.hidden = search.hidden = rows.length === 0;
  const id = openID(), r = known.transfers.get(id);
  list.render(rows, id);
  document.body.classList.toggle("detailed", Boolean(r));
  detail.open(r ? id : "");
  if (r) detail.row(r);
  draw.speed(spark, known.speed, null);
  title(rows);
}

function linkState(s) {
  const away = s.swarms.filter((w) => w.state !== "connected");
  text($("link-state"), s.swarms.length === 0 ? "in no swarm" : away.length === 0 ? "● connected" : "○ " + (away[0].state === "failed" ? "swarm failed" : "server away"));
  set($("link-state"), "data-state", s.swarms.length === 0 ? "none" : away.length === 0 ? "good" : "bad");
  const told = JSON.stringify(away.map((w) => [w.id, w.servers, w.failure?.what]));
  if (swarmNotes.dataset.told === told) return;
  swarmNotes.dataset.told = told;
  swarmNotes.replaceChildren(...away.map((w) => h("p", { class: "note" }, "The server of swarm " + w.id.slice(0, 8) + " (" + plain(w.servers.join(", ")) + ") does not answer" +
    (w.failure ? ": " + plain(w.failure.what) : "") + ". Transfers that run go on; the peer goes on trying.")));
}

function title(rows) {
  const running = rows.filter((r) => r.kind === "download" && ["downloading", "waiting", "hashing"].includes(r.state) && r.size > 0);
  const all = running.reduce((n, r) => n + r.size, 0), done = running.reduce((n, r) => n + r.done, 0);
  const p = percent(done, all);
  document.title = running.length === 0 ? "shoal" : p + " % · " + (running.length === 1 ? plain(running[0].name) : running.length + " downloads") + " · shoal";
  const icon = document.querySelector("link[rel=icon]");
  if (icon.dataset.part !== String(running.length && p)) {
    icon.dataset.part = String(running.length && p);
    draw.ring(icon, running.length ? p / 100 : null);
  }
}

/* themes */

theme.follow(() => {
  if (known.stats) show();
  detail.draw();
});

/* keys */

const help = () => dialogs.help(known.stats?.version || "");
$("help").addEventListener("click", help);

const keys = {
  "/": () => search.focus(), j: () => list.step(1), k: () => list.step(-1), g: () => get(), s: () => share(), "?": help,
  p: () => { const r = list.current(); if (r) (r.paused || r.state === "failed" || r.state === "changed" ? act.resume : act.pause)(r); },
  x: () => { const r = list.current(); if (r) act.remove(r); },
  Escape: () => { if (openID()) location.hash = "#/"; },
};

addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]") || work.hidden && e.key !== "?") return;
  if (e.target.matches("input, select, textarea")) {
    if (e.key === "Escape") e.target.blur();
    return;
  }
  const key = keys[e.key];
  if (key) {
    e.preventDefault();
    key();
  }
});

addEventListener("paste", (e) => {
  const s = e.clipboardData?.getData("text/plain").trim() || "";
  if (s.startsWith("shoal://") && !document.querySelector("dialog[open]") && !work.hidden) get(s);
});
addEventListener("dragover", (e) => e.preventDefault());
addEventListener("drop", (e) => {
  e.preventDefault();
  if (!document.querySelector("dialog[open]") && !work.hidden) share("A browser does not tell where a file lies: choose it here. It is shared from where it lies, and not copied.");
});
addEventListener("hashchange", () => {
  show();
  if (openID()) setTimeout(() => { detail.title.focus({ preventScroll: innerWidth > 760 }); }, frame + 50);
  else list.body.querySelector("tr.open .of-name a")?.focus();
});
addEventListener("resize", show);

/* the stream */

follow(on, (s) => {
  const was = known.state;
  known.state = s;
  const banner = $("banner");
  banner.hidden = s !== "lost";
  text(banner, s === "lost" ? "The peer does not answer. What you see is what was known last; trying again every two seconds." : "");
  if (was === "lost" && s === "open") say("The peer answers again");
  show();
}, snapshot);
