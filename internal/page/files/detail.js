// All of one transfer: pieces, speed, neighbours, log. It asks once a second while it is seen.

import { h, text, plain, titled, copyButton, failure } from "./dom.js";
import { size, rate, count, many, percent, duration, clock } from "./format.js";
import { ask } from "./api.js";
import * as draw from "./draw.js";
import { stateText, part } from "./list.js";

const maxNeighbours = 100;

export class Detail {
  /** @param {{canLink: (swarm: string) => boolean}} o */
  constructor(o) {
    this.o = o;
    this.id = "";
    this.title = h("h2", { id: "detail-name", tabindex: "-1" }, h("bdi"));
    this.facts = h("p", { class: "facts" });
    this.failure = h("div");
    this.map = h("canvas", { class: "pieces", "aria-hidden": "true" });
    this.mapText = h("p", { class: "summary" }, "");
    this.graph = h("canvas", { class: "speed", "aria-hidden": "true" });
    this.graphText = h("p", { class: "summary" }, "");
    this.peers = h("tbody");
    this.peersText = h("p", { class: "summary" });
    this.peersTable = h("table", { class: "peers" }, h("caption", { class: "unseen" }, "Neighbours"),
      h("thead", {}, h("tr", {}, ["Peer", "Address", "Has", "Down", "Up", "Round trip"].map((s) => h("th", { scope: "col" }, s)))), this.peers);
    this.log = h("ol", { class: "log" });
    this.where = h("dl", { class: "where" });
    this.link = h("div", { class: "link" });
    this.el = h("section", { class: "detail", "aria-labelledby": "detail-name", hidden: true },
      h("div", { class: "row" }, this.title, h("span", { class: "space" }), h("a", { href: "#/", class: "close" }, "Close")),
      this.facts, this.failure,
      h("div", { class: "panes" },
        h("div", { class: "pane wide" }, h("h3", {}, "Pieces"),
          h("p", { class: "legend", "aria-hidden": "true" }, swatch("of-all", "here"), swatch("of-part", "partly"), swatch("of-none", "missing"), swatch("of-way", "under way"), swatch("of-rare", "rarest"), this.map), this.mapText),
        h("div", { class: "pane" }, h("h3", {}, "Speed"),
          h("p", { class: "legend", "aria-hidden": "true" }, swatch("of-down", "down"), swatch("of-up", "up (dashed)"), h("i", { class: "of-grid" }), this.graph), this.graphText),
        h("div", { class: "pane" }, h("h3", {}, "Neighbours"), this.peersText, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Neighbours" }, this.peersTable)),
        h("div", { class: "pane" }, h("h3", {}, "On other machines"), this.link, this.where),
        h("div", { class: "pane" }, h("h3", {}, "Log"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Log" }, this.log))));
    this.d = null;
    new ResizeObserver(() => this.draw()).observe(this.el);
    document.addEventListener("visibilitychange", () => this.load());
    setInterval(() => this.load(), 1000);
  }

  /** open shows a transfer; an empty id shows none. */
  open(id) {
    if (id === this.id) return;
    this.id = id;
    this.d = null;
    this.shown = "";
    this.el.hidden = !id;
    this.link.replaceChildren();
    this.linked = false;
    this.failure.replaceChildren();
    if (id) this.load();
  }

  async load() {
    if (!this.id || document.hidden || this.asking) return;
    this.asking = true;
    const id = this.id;
    try {
      const d = await ask("GET", "/transfers/" + encodeURIComponent(id));
      if (id !== this.id) return;
      this.d = d;
      this.fill(d);
    } catch (f) {
      if (id === this.id && f.status === 404) location.hash = "#/";
    } finally {
      this.asking = false;
    }
  }

  /** row shows what the list knows already. */
  row(r) {
    text(this.title.firstChild, plain(titled(r)));
    const facts = [stateText(r), part(r) + " %", size(r.done) + " of " + (r.size > 0 ? size(r.size) : "an unknown size")];
    if (r.down > 0) facts.push("↓ " + rate(r.down));
    if (r.up > 0) facts.push("↑ " + rate(r.up));
    if (r.eta > 0) facts.push(duration(r.eta) + " left");
    if (r.kind === "download" && r.state === "downloading") facts.push(many(r.sources, "source"));
    if (r.arriving > 0) facts.push(size(r.arriving) + " arriving");
    if (r.given > 0) facts.push(many(r.given, "copy", "copies") + " given");
    text(this.facts, facts.join("  ·  "));
    const told = JSON.stringify(r.failure || null);
    if (this.shown !== told) {
      this.shown = told;
      this.failure.replaceChildren(...r.failure ? [failure(r.failure)] : []);
    }
  }

  fill(d) {
    this.row(d);
    this.draw();
    const verified = d.state === "complete" || d.state === "seeding" ? "every piece is checked against the content's id" : "";
    if (d.pieces) {
      const p = d.pieces;
      const here = p.count === 0 ? "it is empty" : percent(d.done, d.size) + " % here";
      const under = p.under.reduce((n, [run, each]) => n + run * each, 0), rarest = draw.rare(p);
      const facts = [many(p.count, "piece") + " of " + size(p.size) + ": " + here];
      if (under > 0) facts.push(count(under) + " under way");
      if (rarest) facts.push("rarest: " + (rarest.least === 0 ? "no neighbour has" : many(rarest.least, "neighbour has", "neighbours have")) + " what is missing in " + many(rarest.count, "place"));
      if (verified) facts.push(verified);
      text(this.mapText, facts.join("; "));
    } else text(this.mapText, "Of what pieces it consists is not known yet.");
    const now = (a) => a.at(-1) || 0;
    text(this.graphText, !d.speed.down.some(Boolean) && !d.speed.up.some(Boolean) ? "Nothing has moved in the last five minutes." : "Now ↓ " + rate(now(d.speed.down)) + ", ↑ " + rate(now(d.speed.up)) + "; at most ↓ " + rate(Math.max(0, ...d.speed.down)) + ", ↑ " +
      rate(Math.max(0, ...d.speed.up)) + " in five minutes.");
    this.neighbours(d);
    this.log.replaceChildren(...d.log.length === 0 ? [h("li", {}, "Nothing yet.")] : d.log.slice(-100).reverse().map((l) => h("li", {}, h("time", { datetime: l.time }, clock(l.time)), " ", plain(l.text))));
    this.places(d);
  }

  neighbours(d) {
    const all = d.neighbours.slice(0, maxNeighbours), count_ = d.pieces?.count || 0;
    text(this.peersText, d.peers === 0 ? "Nobody exchanges it with this peer at the moment." :
      many(d.peers, "neighbour") + (d.peers > all.length ? ", the busiest " + count(all.length) + " here" : ""));
    this.peersTable.hidden = all.length === 0;
    while (this.peers.rows.length > all.length) this.peers.deleteRow(-1);
    all.forEach((n, i) => {
      const tr = this.peers.rows[i] || this.peers.appendChild(h("tr", {}, h("td"), h("td"), h("td"), h("td"), h("td"), h("td")));
      [plain(n.peer), plain(n.addr), percent(n.pieces, count_) + " %", rate(n.down), rate(n.up), n.rtt > 0 ? (n.rtt * 1000).toFixed(n.rtt < 0.01 ? 1 : 0) + " ms" : "–"].forEach((s, c) => text(tr.cells[c], s));
    });
  }

  // places shows where the content lies, and how others get it.
  places(d) {
    const facts = [["path", d.path], ["id", d.content], ["folder", d.folder]].filter(([, v]) => v);
    const told = JSON.stringify(facts);
    if (this.where.dataset.told !== told) {
      this.where.dataset.told = told;
      this.where.replaceChildren(...facts.flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, plain(v))]));
    }
    if (!d.content) return;
    if (this.link.childElementCount === 0) {
      const shown = h("code", {}, "shoal get " + d.content.slice(0, 16));
      this.link.append(h("p", { class: "summary" }, "On a machine of this swarm:"), h("p", { class: "row" }, shown, copyButton(shown)));
    }
    // The swarm's server may come up after the transfer.
    if (this.linked || !this.o.canLink(d.swarm)) return;
    this.linked = true;
    const [note, command] = [this.link.querySelector(".summary"), this.link.querySelector("code")];
    this.link.append(h("button", {
      type: "button", onclick: async (e) => {
        const button = e.currentTarget;
        try {
          const { link } = await ask("POST", "/swarms/" + d.swarm + "/links", { transfer: d.id });
          text(note, "On any machine; the link lets it into the swarm, for a day:");
          text(command, "shoal get '" + link + "'");
          button.remove();
        } catch (f) {
          button.replaceWith(failure(f));
        }
      },
    }, "Make a link for machines that are not in the swarm"));
  }

  draw() {
    if (!this.d || this.el.hidden) return;
    this.map.parentElement.hidden = !this.d.pieces;
    if (this.d.pieces) draw.pieces(this.map, this.d.pieces);
    draw.speed(this.graph, this.d.speed, rate);
  }
}

function swatch(name, label) {
  return h("span", {}, h("i", { class: name }), label);
}
