// The page of a swarm server: who is there, what they have, who comes and goes. It asks once a second while it is seen.

import { h, text, plain, say } from "./dom.js";
import { size, count, many, duration, clock } from "./format.js";
import { ask } from "./api.js";
import * as theme from "./theme.js";
import { Picture } from "./swarm.js";

const rows = 200; // of a table, at most
const $ = (id) => document.getElementById(id);

const tiles = {};
const tile = (key, label) => h("div", { class: "tile" }, tiles[key] = h("b", {}, "–"), h("span", {}, label));
const table = (label, heads) => {
  const body = h("tbody");
  return { body, el: h("table", {}, h("caption", { class: "unseen" }, label), h("thead", {}, h("tr", {}, heads.map((s) => h("th", { scope: "col" }, s)))), body) };
};
const scroll = (label, ...inside) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...inside);

const contents = table("Contents", ["Name", "Size", "Copies", "Holders", "Since"]);
const members = table("Members", ["Machine", "Peer", "Address", "Has"]);
members.el.classList.add("members");
contents.el.classList.add("contents");
const news = h("ol", { class: "log" });
const picture = new Picture();
const sums = { contents: h("p", { class: "summary" }), members: h("p", { class: "summary" }), news: h("p", { class: "summary" }) };
const work = h("div", { hidden: true },
  h("div", { class: "tiles" }, tile("members", "members"), tile("contents", "contents"), tile("copies", "whole copies"), tile("fetching", "being fetched"),
    tile("joins", "joined, last minute"), tile("leaves", "left, last minute"), tile("done", "completed, last minute")),
  h("div", { class: "swarm" },
    h("section", { class: "card" }, h("h2", {}, "The swarm"), picture.el),
    h("section", { class: "card" }, h("h2", {}, "Contents"), sums.contents, scroll("Contents", contents.el)),
    h("section", { class: "card" }, h("h2", {}, "Members"), sums.members, scroll("Members", members.el)),
    h("section", { class: "card" }, h("h2", {}, "Who came and went"), sums.news, scroll("Who came and went", news))));
const signIn = h("section", { class: "card sign-in", hidden: true }, h("h2", {}, "Sign in"), h("p", {}, "On the machine of this server, type"),
  h("p", {}, h("code", {}, "shoal web server")), h("p", {}, "and open the link that it prints. It works once, within ten minutes; this browser then stays signed in."));
const empty = h("p", { class: "note" }, "Nobody is here yet. On the server's machine  shoal link new  makes a link that lets machines in; they use it with  shoal join LINK .");
const waiting = h("p", { class: "waiting" }, "Asking the server…");
$("main").append(waiting, signIn, empty, work);
empty.hidden = true;

// fill makes a table say what is so; its rows are kept.
function fill(body, all) {
  while (body.rows.length > all.length) body.deleteRow(-1);
  all.forEach((cells, i) => {
    const tr = body.rows[i] || body.appendChild(h("tr", {}, cells.map(() => h("td"))));
    cells.forEach((s, c) => text(tr.cells[c], s));
  });
}

const shownOf = (n, all, what) => many(all, what) + (all > n ? ", " + count(n) + " of them here" : "");

function show(v) {
  text($("where"), plain(v.name) + " · swarm " + v.swarm.slice(0, 8));
  text($("up"), "up " + duration(v.up));
  document.title = many(v.members + v.classic, "member") + " · shoal server";
  const now = Date.now(), minute = (what) => v.news.filter((n) => n.what === what && now - Date.parse(n.time) < 60000).length;
  const upTo = (n) => count(n) + (v.news.length >= 200 && n > 0 ? " +" : "");
  text(tiles.members, count(v.members) + (v.classic ? " + " + count(v.classic) + " classic" : ""));
  text(tiles.contents, count(v.contents));
  text(tiles.copies, count(v.contained.reduce((n, c) => n + c.seeds, 0)));
  text(tiles.fetching, count(v.contained.reduce((n, c) => n + c.holders - c.seeds, 0)));
  text(tiles.joins, upTo(minute("joined")));
  text(tiles.leaves, upTo(minute("left")));
  text(tiles.done, upTo(minute("completed")));
  text(sums.contents, v.contents === 0 ? "Nobody shares anything yet." : shownOf(Math.min(rows, v.contained.length), v.contents, "content"));
  text(sums.members, shownOf(Math.min(rows, v.there.length), v.members, "member"));
  text(sums.news, "Since this server began: " + count(v.joined) + " came, " + count(v.left) + " went, " + many(v.completed, "download") + " completed.");
  contents.el.hidden = v.contents === 0;
  fill(contents.body, v.contained.slice(0, rows).map((c) => [plain(c.names.join(", ") || c.id.slice(0, 16)), size(c.size), count(c.seeds), count(c.holders), duration(c.age)]));
  fill(members.body, v.there.toSorted((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0).slice(0, rows).map((m) => [plain(m.name || "–") + (m.role === "server" ? " (server)" : ""), m.peer, plain(m.addrs[0] || "cannot be dialled"), many(m.holds, "content")]));
  const lines = v.news.slice(-100).reverse();
  const told = JSON.stringify(lines);
  if (news.dataset.told !== told) {
    news.dataset.told = told;
    news.replaceChildren(...lines.map((n) => h("li", {}, h("time", { datetime: n.time }, clock(n.time)), " ", plain(n.name || n.peer) + " " + n.what + (n.content ? " " + plain(n.content) : ""))));
  }
  empty.hidden = v.members + v.classic > 0;
  picture.show(v);
}

let lost = false;
async function load() {
  if (document.hidden) return;
  try {
    const v = await ask("GET", "/swarm");
    waiting.hidden = signIn.hidden = true;
    work.hidden = false;
    $("banner").hidden = true;
    if (lost) say("The server answers again");
    lost = false;
    show(v);
  } catch (f) {
    waiting.hidden = true;
    if (f.status === 401) {
      signIn.hidden = false;
      work.hidden = true;
      return;
    }
    lost = true;
    $("banner").hidden = false;
    text($("banner"), "The server does not answer. What you see is what was known last; trying again every second. Transfers that run go on without it.");
  }
}

async function run() {
  await load();
  setTimeout(run, 1000);
}

theme.follow(() => picture.draw());
document.addEventListener("visibilitychange", load);
run();
